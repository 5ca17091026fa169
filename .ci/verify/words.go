package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// foreign is what belongs to the machine of whoever wrote a file: home folders, and the hosts that packages were fetched
// from.
var foreign = regexp.MustCompile(
	`(^|[\s"'` + "`" + `(=:])/(root|home/[a-z]\w*|Users/\w+)/|\b(proxy\.golang\.org|registry\.npmjs\.org|goproxy\.\w+)\b`)

// homebrew is the same on every Linux machine.
var homebrew = []byte("/home/linuxbrew/")

// checkWords looks for foreign names, and for the folder of this very clone, in every text.
func checkWords(files map[string][]byte) ([]string, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	var findings []string
	for path, data := range files {
		if strings.HasPrefix(path, ".ci/verify/") || bytes.IndexByte(data, 0) >= 0 {
			continue
		}
		number := 0
		for line := range bytes.Lines(data) {
			number++
			found := foreign.Find(line)
			if bytes.Contains(line, []byte(here+"/")) {
				found = []byte(here)
			}
			if found != nil && !bytes.Contains(found, homebrew) {
				findings = append(findings, fmt.Sprintf("%s:%d: belongs to one machine only: %s", path, number, bytes.TrimSpace(found)))
			}
		}
	}
	return findings, nil
}
