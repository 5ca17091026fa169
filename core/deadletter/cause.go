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
var (
	variable = []*regexp.Regexp{
		regexp.MustCompile(`"[^"]*"|'[^']*'|` + "`[^`]*`"),
		regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`),
		regexp.MustCompile(`0x[0-9a-fA-F]+`),
	}
	// What looks like a hash or an IPv6 address, unless it is a word without a single digit.
	hexWord = regexp.MustCompile(`\b([0-9a-fA-F]{8,}|[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{0,4}){2,7})\b`)
	number  = regexp.MustCompile(`[0-9]+([.:,][0-9]+)*`)
)

// What of an error names its cause, and how much of it is looked at for that.
const (
	causeText = 500
	causeRead = 4096
)

// The causes of letters that the sweep makes of runs whose end nobody has judged, see core/postgres.
const (
	CauseNodeLost  = "node_lost"
	CauseNotStored = "not_stored"
)

// Cause names the group of a dead letter: those whose script failed in the same version with the same error, but for
// numbers, ids, addresses and what is in quotes. It is short and stable.
func Cause(version int, kind, message string) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(version) + "\x00" + kind + "\x00" + normalize(message)))
	return hex.EncodeToString(sum[:8])
}

// normalize cuts only after it has replaced: what differs in length would else differ in where it is cut.
func normalize(message string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	line = line[:min(len(line), causeRead)]
	for _, v := range variable {
		line = v.ReplaceAllLiteralString(line, "#")
	}
	line = hexWord.ReplaceAllStringFunc(line, func(word string) string {
		if strings.ContainsAny(word, "0123456789") {
			return "#"
		}
		return word
	})
	line = strings.Join(strings.Fields(number.ReplaceAllLiteralString(line, "#")), " ")
	return strings.TrimSpace(line[:min(len(line), causeText)])
}
