package coretest

import (
	"testing"
	"time"
)

// patience is how long Eventually waits. It is no measure of speed, only the end of a test that hangs.
const patience = 2 * time.Minute

// Eventually waits until a condition holds that sends no signal, such as the state of another process, and fails the
// test when it does not. what completes "never came true: ". Call it from the test's goroutine.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("never came true: %s", what)
		}
	}
}
