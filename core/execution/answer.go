package execution

import (
	"fmt"
	"net/http"

	"golang.org/x/net/http/httpguts"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// IDHeader names the execution that an answer comes from.
const IDHeader = "Picloud-Execution-Id"

// How much is kept of an answer: for whoever asks for it later, and for the record of a failure.
const (
	MaxAnswer = 1 << 20
	collected = 64 << 10
)

// TooLarge is the kind of an answer that was not kept, since it is larger than MaxAnswer.
const TooLarge = "answer_too_large"

// HopByHop are headers of one connection, not of the request or answer.
var HopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// CheckHead says what a script may not say in its head. Nothing is mended silently: such an answer is invalid.
func CheckHead(head *engine.Head) error {
	if head.Status < 200 || head.Status > 599 {
		return fmt.Errorf("the status %d is not one that a script may send (200 to 599)", head.Status)
	}
	for _, x := range head.Headers {
		if err := checkHeader(x); err != nil {
			return err
		}
	}
	return nil
}

func checkHeader(x event.Header) error {
	name := http.CanonicalHeaderKey(x.Name)
	switch {
	case !httpguts.ValidHeaderFieldName(x.Name) || !httpguts.ValidHeaderFieldValue(x.Value):
		return fmt.Errorf("the header %q holds characters that HTTP does not allow", x.Name)
	case name == IDHeader:
		return fmt.Errorf("the header %s is the platform's", name)
	case HopByHop[name] || name == "Content-Length":
		return fmt.Errorf("the header %s belongs to the connection, not to a script", name)
	}
	return nil
}

// keeper gathers an answer that no caller waits for, up to a limit.
type keeper struct {
	limit int
	head  *engine.Head
	data  []byte
	over  bool // there was more
}

func (k *keeper) Head(h engine.Head) error {
	k.head = &h
	return nil
}

func (k *keeper) Write(p []byte) (int, error) {
	room := max(0, k.limit-len(k.data))
	k.over = k.over || len(p) > room
	k.data = append(k.data, p[:min(room, len(p))]...)
	return len(p), nil
}

// response is the beginning of the answer, for the record of a failure.
func (k *keeper) response() []byte {
	if k.data == nil {
		return nil
	}
	return k.data[:min(collected, len(k.data))]
}

// answer is what is stored of a run that ended with f; nil: it ended well. A fault that says that nothing was started
// is no answer.
func (k *keeper) answer(f *fault.Fault) *outbox.Answer {
	if f == nil && k.head == nil {
		f = fault.New(fault.InvalidResponse, fault.Plugin, "the run ended without an answer")
	}
	if f == nil {
		if err := CheckHead(k.head); err != nil {
			f = fault.New(fault.InvalidResponse, fault.Script, "%v", err)
		}
	}
	switch {
	case f != nil:
		return answerOf(f)
	case k.over || len(k.data) > MaxAnswer:
		return &outbox.Answer{
			Status: k.head.Status, Kind: TooLarge,
			Error: fmt.Sprintf("the script answered %d with more than %d bytes, which are not kept", k.head.Status, MaxAnswer),
		}
	}
	return &outbox.Answer{Status: k.head.Status, Headers: k.head.Headers, Body: k.data}
}

// answerOf is what is stored where there is nothing to say but how it ended.
func answerOf(f *fault.Fault) *outbox.Answer {
	switch {
	case f == nil:
		return &outbox.Answer{Status: http.StatusNoContent}
	case f.Kind == fault.Unavailable:
		return nil
	}
	return &outbox.Answer{Status: Status(f), Kind: string(f.Kind), Error: f.Message}
}
