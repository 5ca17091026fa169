package torture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// processState returns the state letter of a process, 0 if there is none.
func processState(pid int) byte {
	_, state := processStat(pid)
	return state
}

// processStat reads the parent and the state of a process.
func processStat(pid int) (parent int, state byte) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	_, rest, ok := bytes.Cut(stat[bytes.LastIndexByte(stat, ')'):], []byte(") "))
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 2 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	return parent, fields[0][0]
}

// engineProcesses returns the engines that report to a recorder, and their parents.
func engineProcesses(recorder string) map[int]int {
	found := map[int]int{}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(line, []byte(EngineArg+"\x00"+recorder+"\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if parent, state := processStat(pid); err == nil && state != 0 && state != 'Z' {
			found[pid] = parent
		}
	}
	return found
}
