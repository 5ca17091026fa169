package embedded

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// pidFile is what a server tells of itself in postmaster.pid: PostgreSQL, src/include/utils/pidfile.h.
type pidFile struct {
	pid    int
	socket string // the socket's folder
	ready  bool
}

// readPIDFile reports false if there is none or it is not written to its end yet.
func readPIDFile(data string) (pidFile, bool) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return pidFile{}, false
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 5 {
		return pidFile{}, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 1 {
		return pidFile{}, false
	}
	return pidFile{
		pid:    pid,
		socket: strings.TrimSpace(lines[4]),
		ready:  len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready",
	}, true
}
