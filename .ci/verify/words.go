package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// foreign is what belongs to the machine of whoever wrote a file: home and working folders, and the hosts that packages
// were fetched from.
var foreign = regexp.MustCompile(
	`(^|[\s"'` + "`" + `(=:])/(root|home/[a-z]\w*|Users/\w+|work|workspace)/|\b(proxy\.golang\.org|registry\.npmjs\.org|goproxy\.\w+)\b`)

// checkWords looks for foreign names in every text.
func checkWords(files map[string][]byte) ([]string, error) {
	var findings []string
	for path, data := range files {
		if strings.HasPrefix(path, ".ci/verify/") || bytes.IndexByte(data, 0) >= 0 {
			continue
		}
		number := 0
		for line := range bytes.Lines(data) {
			number++
			// Homebrew has the same home on every Linux machine.
			if found := foreign.Find(line); found != nil && !bytes.Contains(found, []byte("/home/linuxbrew/")) {
				findings = append(findings, fmt.Sprintf("%s:%d: belongs to one machine only: %s", path, number, bytes.TrimSpace(found)))
			}
		}
	}
	return findings, nil
}
