package execution

import (
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
)

// logMessage bounds the message of a line.
const logMessage = 10_000

// logBook gathers the lines of one run, up to its limits. The engine keeps those too; a plugin is not trusted to.
type logBook struct {
	limits  tenant.Limits
	veil    *secret.Veil // nil: there is nothing to hide
	mu      sync.Mutex
	lines   []logLine
	bytes   int
	dropped int
}

type logLine struct {
	Time    time.Time       `json:"time"`
	Level   string          `json:"level"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func (b *logBook) add(lines []engine.Log) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range lines {
		message := l.Message
		if len(message) > logMessage {
			message = b.veil.Text(message) // before a part of something would be left
		}
		if len(message) > logMessage {
			message = message[:logMessage] + "…"
		}
		size := len(message) + len(l.Data)
		if len(b.lines) >= b.limits.LogLines || b.bytes+size > b.limits.LogBytes {
			b.dropped++
			continue
		}
		b.bytes += size
		line := logLine{Time: l.Time, Level: l.Level, Message: strings.ToValidUTF8(message, "�")}
		if json.Valid(l.Data) {
			line.Data = l.Data
		}
		b.lines = append(b.lines, line)
	}
}

// encode returns the lines as a JSON array, nil when there are none.
func (b *logBook) encode() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lines) == 0 && b.dropped == 0 {
		return nil
	}
	if b.dropped > 0 {
		data, _ := json.Marshal(map[string]int{"dropped": b.dropped})
		b.lines = append(b.lines, logLine{
			Time: time.Now(), Level: "warn", Message: "log lines were dropped: the run is over its limit", Data: data,
		})
	}
	for i := range b.lines { // only now is it known what the run came to know
		l := &b.lines[i]
		l.Message, l.Data = b.veil.Text(l.Message), b.veil.JSON(l.Data)
	}
	out, err := json.Marshal(b.lines)
	if err != nil { // every part was checked when it was added
		return nil
	}
	return out
}
