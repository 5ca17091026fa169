package service

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/picloud/picloud/sdk/fault"
)

// Unit is what a limit is counted in.
type Unit int

// The units.
const (
	Count  Unit = iota
	Bytes       // of what travels: of values and documents their JSON
	Millis      // milliseconds
)

// Limit is one bound of what scripts ask for. What is beyond it is refused with an error of that code.
type Limit struct {
	Of      string // the service, as scripts call it
	What    string
	Default int64 // where a script does not say; zero: there is none to say
	Most    int64
	Unit    Unit
	Code    string
}

// Limits returns all bounds of services, in the order of the reference. They are those of the host: see core/service, whose tests
// hold them against this list and drive each to its bound and one past it.
func Limits() []Limit {
	const invalid, limit, conflict = string(fault.Invalid), string(fault.Limit), string(fault.Conflict)
	return []Limit{
		{"kv, docs, files", "the name of a collection", 0, 128, Bytes, invalid},
		{"kv, files", "a page of a list", 100, 1000, Count, invalid},

		{"kv", "a key, or a prefix of keys", 0, 512, Bytes, invalid},
		{"kv", "a value", 0, 1 << 20, Bytes, invalid},
		{"kv", "objects and lists in one another", 0, 64, Count, invalid},
		{"kv", "a time to live", 0, 10 * 366 * 24 * 3600 * 1000, Millis, invalid},
		{"kv", "what is added to a number", 1, 1_000_000_000_000_000, Count, invalid},

		{"docs", "a document", 0, 1 << 20, Bytes, invalid},
		{"docs", "objects and lists in one another", 0, 64, Count, invalid},
		{"docs", "values, names and brackets of a document", 0, 100_000, Count, invalid},
		{"docs", "a number", 0, 64, Bytes, invalid},
		{"docs", "a page of what is found", 100, 200, Count, invalid},
		{"docs", "a filter", 0, 64 << 10, Bytes, invalid},
		{"docs", "conditions of a filter, and parts of its $and and $or", 0, 100, Count, invalid},
		{"docs", "$and and $or in one another", 0, 8, Count, invalid},
		{"docs", "values of one $in", 0, 200, Count, invalid},
		{"docs", "a $regex", 0, 1 << 10, Bytes, invalid},
		{"docs", "paths of an order", 0, 3, Count, invalid},
		{"docs", "levels of a path", 0, 5, Count, invalid},
		{"docs", "one level of a path", 0, 64, Bytes, invalid},
		{"docs", "indexes of a collection", 0, 16, Count, conflict},
		{"docs", "documents that a find looks at without an index", 0, 10_000, Count, invalid},

		{"files", "a name", 0, 255, Bytes, invalid},
		{"files", "a file that is written or read at once, or a part of one", 0, 8 << 20, Bytes, invalid},
		{"files", "a file", 0, 1 << 30, Bytes, invalid},
		{"files", "all files of an app", 0, 10 << 30, Bytes, limit},

		{"secrets", "a name", 0, 63, Bytes, invalid},
		{"secrets", "a value", 0, 64 << 10, Bytes, invalid},
		{"secrets", "texts, lines of texts, and numbers of a value", 0, 100, Count, invalid},
		{"secrets", "all secrets of an app", 0, 1000, Count, limit},

		{"http", "a URL", 0, 8 << 10, Bytes, limit},
		{"http", "headers, of a request and of its answer", 0, 64 << 10, Bytes, limit},
		{"http", "a body, of a request and of its answer", 0, 10 << 20, Bytes, limit},
		{"http", "time", 30_000, 300_000, Millis, invalid},
		{"http", "redirects", 0, 5, Count, limit},

		{"pubsub", "a topic", 0, 255, Bytes, invalid},
		{"pubsub", "a message", 0, 1 << 20, Bytes, invalid},
		{"pubsub", "a message times the triggers that take it", 0, 32 << 20, Bytes, invalid},

		{"sink", "a message", 0, 1 << 20, Bytes, invalid},
		{"sink", "a type", 0, 255, Bytes, invalid},

		{"email", "a message, as JSON with attachments in base64", 0, 6 << 20, Bytes, invalid},
		{"email", "addresses in to, cc and bcc", 0, 100, Count, invalid},
		{"email", "attachments", 0, 50, Count, invalid},
		{"email", "a subject", 0, 998, Bytes, invalid},

		{"queue", "messages of one call", 0, 100, Count, invalid},
		{"queue, invoke", "the data of a message", 0, 1 << 20, Bytes, invalid},
		{"queue, invoke", "a key", 0, 255, Bytes, invalid},
		{"queue, invoke", "a delay", 0, 366 * 24 * 3600 * 1000, Millis, invalid},
		{"queue, invoke", "attempts", 0, 25, Count, invalid},
	}
}

// Text is a value of the limit as people read it.
func (l *Limit) Text(n int64) string {
	switch l.Unit {
	case Bytes:
		for _, unit := range []struct {
			size int64
			name string
		}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
			if n >= unit.size && n%unit.size == 0 {
				return fmt.Sprintf("%d %s", n/unit.size, unit.name)
			}
		}
		return fmt.Sprintf("%d bytes", n)
	case Millis:
		const day = 24 * time.Hour
		if d := time.Duration(n) * time.Millisecond; d >= 2*day {
			return fmt.Sprintf("%d days", d/day)
		} else if d >= 2*time.Minute {
			return fmt.Sprintf("%d minutes", d/time.Minute)
		}
		return fmt.Sprintf("%d seconds", n/1000)
	}
	digits := strconv.FormatInt(n, 10)
	var groups []string
	for len(digits) > 3 {
		groups, digits = append([]string{digits[len(digits)-3:]}, groups...), digits[:len(digits)-3]
	}
	return strings.Join(append([]string{digits}, groups...), ",")
}
