//go:build linux

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// load is the script that makes wrk send the body where there is one, and print what came of it as JSON. It costs nothing
// while wrk runs.
//
//go:embed load.lua
var load string

// result is what wrk saw.
type result struct {
	Requests int `json:"requests"`
	Micros   int `json:"micros"`
	Failed   int `json:"failed"` // answered with another status than 2xx or 3xx, or not at all
	P50      int `json:"p50"`    // µs
	P99      int `json:"p99"`

	cpu time.Duration // that wrk used
}

// rate is good answers a second.
func (r result) rate() float64 { return float64(r.Requests-r.Failed) / (float64(r.Micros) / 1e6) }

// wrk puts load on a URL from one thread.
func wrk(ctx context.Context, dir, url, body string, connections int, d time.Duration) (result, error) {
	cmd := exec.CommandContext(ctx, "wrk", "-t1", fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%ds", int(d.Seconds())),
		"-s", filepath.Join(dir, "load.lua"), url, "--", body)
	out, err := cmd.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return result{}, fmt.Errorf("wrk %s: %w: %s", url, err, failed.Stderr)
	}
	if err != nil {
		return result{}, err
	}
	var r result
	line := out[max(0, lastLine(out)):]
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("wrk %s: %q: %w", url, line, err)
	}
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return r, nil
}

// lastLine is where the last line of a text begins that ends in a line feed.
func lastLine(text []byte) int {
	for i := len(text) - 2; i >= 0; i-- {
		if text[i] == '\n' {
			return i + 1
		}
	}
	return 0
}
