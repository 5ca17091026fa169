package plugin

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/picloud/picloud/sdk/fault"
	pluginv1 "github.com/picloud/picloud/sdk/proto/plugin/v1"
)

// WireText makes text of a plugin fit for a protobuf string, which must be UTF-8: a message that cannot be encoded would
// end the session. Text of scripts and callers travels as bytes instead, and keeps every byte.
func WireText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// FaultToWire makes a message of an error: of the fault in it, or of one that says what it says.
func FaultToWire(err error) *pluginv1.Fault {
	f := fault.From(err)
	if f == nil {
		return nil
	}
	return &pluginv1.Fault{
		Kind: WireText(string(f.Kind)), Origin: WireText(string(f.Origin)),
		Message: faultText(f.Message), Detail: faultText(f.Detail),
		RetryAfterMs: f.RetryAfter.Milliseconds(), Fatal: f.Fatal,
	}
}

// FaultTextLimit bounds the texts of a fault. A script chooses its error's text, and what is larger than a message may
// be would end the session for everybody.
const FaultTextLimit = 64 << 10

func faultText(s string) []byte {
	if len(s) > FaultTextLimit {
		const cut = " … (cut)"
		n := FaultTextLimit - len(cut)
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + cut
	}
	return []byte(s)
}

// FaultFromWire is the way back. Of no message it is nil.
func FaultFromWire(m *pluginv1.Fault) *fault.Fault {
	if m == nil {
		return nil
	}
	return &fault.Fault{
		Kind: fault.Kind(m.GetKind()), Origin: fault.Origin(m.GetOrigin()), Message: string(m.GetMessage()),
		Detail: string(m.GetDetail()), RetryAfter: time.Duration(m.GetRetryAfterMs()) * time.Millisecond, Fatal: m.GetFatal(),
	}
}

// LayersToWire makes messages of layers of isolation.
func LayersToWire(layers []Layer) (m []*pluginv1.Layer) {
	for _, l := range layers {
		m = append(m, &pluginv1.Layer{Name: l.Name, Missing: l.Missing})
	}
	return m
}

// LayersFromWire is the way back.
func LayersFromWire(m []*pluginv1.Layer) (layers []Layer) {
	for _, l := range m {
		layers = append(layers, Layer{Name: l.GetName(), Missing: l.GetMissing()})
	}
	return layers
}
