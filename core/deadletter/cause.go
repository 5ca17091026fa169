// Package deadletter is what happens to an event after the last attempt: it is grouped with others of the same cause,
// brought to the scripts that asked for such, and put back in numbers. It stands behind core/dispatcher, which makes dead
// letters, and before core/outbox, which takes what is put back.
package deadletter

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
)

// What differs between two errors of one cause, the longest forms first.
var variable = []*regexp.Regexp{
	regexp.MustCompile(`"[^"]*"|'[^']*'|` + "`[^`]*`"),
	regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`),
	regexp.MustCompile(`0x[0-9a-fA-F]+`),
	regexp.MustCompile(`\b[0-9a-fA-F]*[0-9][0-9a-fA-F]{7,}\b`),
	regexp.MustCompile(`[0-9]+([.:,][0-9]+)*`),
}

// causeText bounds what of an error names its cause.
const causeText = 500

// Cause names the group of a dead letter: those whose script failed in the same version with the same error, but for
// numbers, ids and what is in quotes. It is short and stable.
func Cause(version int, kind, message string) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(version) + "\x00" + kind + "\x00" + normalize(message)))
	return hex.EncodeToString(sum[:8])
}

func normalize(message string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	line = line[:min(len(line), causeText)]
	for _, v := range variable {
		line = v.ReplaceAllString(line, "#")
	}
	return strings.Join(strings.Fields(line), " ")
}
