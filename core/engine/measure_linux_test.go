package engine

import (
	"os"
	"os/exec"
	"testing"
)

func TestOwnMemory(t *testing.T) {
	t.Parallel()
	own, mapped, known := ownMemory(os.Getpid())
	if !known || own < 1<<20 || mapped < 0 || mapped > 0.5 {
		t.Errorf("of the test: %d bytes, %v of its limit, %v", own, mapped, known)
	}
	// A shell with a megabyte of data to its name has taken a good part of it.
	cmd := exec.Command("/bin/sh", "-c", "ulimit -d 1024; echo ready; read line")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if _, mapped, known = ownMemory(cmd.Process.Pid); !known || mapped < 0.1 || mapped > 1 {
		t.Errorf("of a shell: %v of its limit, %v", mapped, known)
	}
	_ = in.Close()
	_ = cmd.Wait() // it fails to read
	if _, _, known = ownMemory(cmd.Process.Pid); known {
		t.Error("what has ended is measured")
	}
}
