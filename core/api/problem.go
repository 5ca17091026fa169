package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// Problem is how every error is answered: RFC 9457, with the places in the request that are wrong.
type Problem struct {
	Type        string              `json:"type" example:"urn:picloud:problem:not_found" doc:"What kind of problem this is; see the table in the description of the API"`
	Title       string              `json:"title" example:"Not found" doc:"The kind in words"`
	Status      int                 `json:"status" example:"404" doc:"The HTTP status"`
	Detail      string              `json:"detail,omitempty" example:"the app has no such thing" doc:"What is wrong this time"`
	Errors      []*huma.ErrorDetail `json:"errors,omitempty" doc:"Where it is wrong: a place in the request such as body.name, or in a source such as main.go:3:7"`
	ExecutionID string              `json:"execution_id,omitempty" example:"0192d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11" doc:"The execution that failed"`
}

// Error makes a Problem an error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of problems.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

const problemPrefix = "urn:picloud:problem:"

// kind is a documented type of problem.
type kind struct {
	word   string
	status int
	title  string
	doc    string
}

// The kinds of problems. The first of a status is what a problem of that status is if nothing more is known.
var kinds = []kind{
	{"malformed_request", http.StatusBadRequest, "Malformed request", "The request cannot be read: not JSON, a name twice, or something after the end."},
	{"unauthenticated", http.StatusUnauthorized, "Not authenticated", "There is no credential, or it is not valid (any more)."},
	{"forbidden", http.StatusForbidden, "Forbidden", "The credential is valid but may not do this."},
	{"not_found", http.StatusNotFound, "Not found", "There is no such thing, or it is not yours."},
	{"method_not_allowed", http.StatusMethodNotAllowed, "Method not allowed", "The path exists, the method does not; see the header Allow."},
	{"not_acceptable", http.StatusNotAcceptable, "Not acceptable", "The answer is JSON, which the header Accept refuses."},
	{"request_timeout", http.StatusRequestTimeout, "Request timeout", "The body did not arrive in time."},
	{"conflict", http.StatusConflict, "Conflict", "The change does not fit what is there."},
	{"too_large", http.StatusRequestEntityTooLarge, "Too large", "The body is over the limit."},
	{"unsupported_media_type", http.StatusUnsupportedMediaType, "Unsupported media type", "The body is not JSON."},
	{"invalid", http.StatusUnprocessableEntity, "Invalid", "The request can be read, but values in it are wrong; errors says which."},
	{"compile_error", http.StatusUnprocessableEntity, "Does not compile", "The source does not compile; errors says where."},
	{"idempotency_key_reused", http.StatusUnprocessableEntity, "Idempotency key reused", "The key was given before, with another request."},
	{"too_many_requests", http.StatusTooManyRequests, "Too many requests", "The app has too much waiting, or a limit leaves no room; see the header Retry-After."},
	{"internal", http.StatusInternalServerError, "Internal error", "A defect of the platform. The log of the node knows more."},
	{"script_failed", http.StatusBadGateway, "The script failed", "The script returned an error, panicked, died, or gave an answer that cannot be sent."},
	{"unavailable", http.StatusServiceUnavailable, "Unavailable", "Not now; see the header Retry-After."},
	{"deadline", http.StatusGatewayTimeout, "Deadline exceeded", "The script was stopped at its deadline."},
}

func kindOf(status int) kind {
	if i := slices.IndexFunc(kinds, func(k kind) bool { return k.status == status }); i >= 0 {
		return kinds[i]
	}
	return kind{word: "http_" + strconv.Itoa(status), status: status, title: http.StatusText(status)}
}

func kindNamed(word string) kind {
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.word == word })]
}

func (k kind) problem(detail string, errs ...*huma.ErrorDetail) *Problem {
	return &Problem{Type: problemPrefix + k.word, Title: k.title, Status: k.status, Detail: detail, Errors: errs}
}

// problemTable is the documentation of the types.
func problemTable() string {
	var b strings.Builder
	b.WriteString("| type | status | when |\n|---|---|---|\n")
	for _, k := range kinds {
		fmt.Fprintf(&b, "| `%s%s` | %d | %s |\n", problemPrefix, k.word, k.status, k.doc)
	}
	return b.String()
}

// maxEcho bounds how much of a wrong value comes back: enough to recognise it.
const maxEcho = 200

func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		p := kindOf(status).problem(msg)
		for _, err := range errs {
			var detail *huma.ErrorDetail
			switch detailer, ok := err.(huma.ErrorDetailer); {
			case err == nil:
				continue
			case ok:
				d := *detailer.ErrorDetail()
				detail = &d
			default:
				detail = &huma.ErrorDetail{Message: err.Error()}
			}
			if s, ok := detail.Value.(string); (ok && len(s) > maxEcho) || detail.Location == "body" {
				detail.Value = nil
			}
			p.Errors = append(p.Errors, detail)
		}
		return p
	}
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
}

// problemOf maps what the parts behind the API return to what the caller sees. What it does not know is a defect: it is
// logged, and the caller learns no more than that.
func (a *api) problemOf(ctx context.Context, operation string, err error) error {
	if status := huma.StatusError(nil); errors.As(err, &status) {
		return err
	}
	var conflict *tenant.Conflict
	var invalid *tenant.Invalid
	var failed *fault.Fault
	var overloaded *outbox.Overloaded
	switch {
	case errors.Is(err, tenant.ErrNotFound):
		return notFound()
	case errors.Is(err, tenant.ErrCursor):
		return wrong("query.cursor", err.Error())
	case errors.As(err, &conflict):
		p := kindNamed("conflict").problem(conflict.Message)
		if conflict.With != uuid.Nil {
			p.Errors = []*huma.ErrorDetail{{Message: "this stands in the way", Value: conflict.With.String()}}
		}
		return p
	case errors.As(err, &invalid):
		return wrong("body."+invalid.Field, said(invalid))
	case errors.Is(err, outbox.ErrKeyReused):
		return kindNamed("idempotency_key_reused").problem(err.Error())
	case errors.As(err, &overloaded):
		return retryAfter(kindNamed("too_many_requests").problem(overloaded.Message), overloaded.RetryAfter)
	case errors.As(err, &failed) && failed.Kind != fault.Internal:
		return faultProblem(failed)
	case ctx.Err() != nil: // the caller is gone; nobody reads this
		return kindNamed("unavailable").problem("the request was cancelled")
	}
	if lost := (*net.OpError)(nil); errors.As(err, &lost) {
		a.log.Warn("request failed", "operation", operation, "error", err)
		return retryAfter(kindNamed("unavailable").problem("the database cannot be reached; try again"), time.Second)
	}
	a.log.Error("request failed", "operation", operation, "error", err)
	return kindNamed("internal").problem("")
}

func notFound() *Problem { return kindNamed("not_found").problem("there is no such thing here") }

// wrong says that one value of the request is wrong.
func wrong(location, message string) *Problem {
	return kindNamed("invalid").problem(message, &huma.ErrorDetail{Location: location, Message: message})
}

// unknown is the problem that a request names, by name or id, what the app does not have.
func unknown(location, what, ref string) *Problem {
	return wrong(location, fmt.Sprintf("the app has no %s %q", what, ref))
}

// said is what is wrong as a sentence of its own: commands show it without the place.
func said(i *tenant.Invalid) string {
	verb, _, _ := strings.Cut(i.Message, " ")
	if slices.Contains([]string{"is", "has", "holds", "must", "excludes"}, verb) {
		return i.Field + " " + i.Message
	}
	return i.Message
}

func faultProblem(f *fault.Fault) error {
	word := "script_failed"
	switch f.Kind {
	case fault.NotFound:
		return notFound()
	case fault.Compile:
		word = "compile_error"
	case fault.Invalid:
		word = "invalid"
	case fault.Deadline:
		word = "deadline"
	case fault.Unavailable, fault.Cancelled:
		word = "unavailable"
	}
	p := kindNamed(word).problem(f.Message)
	if word != "unavailable" {
		return p
	}
	return retryAfter(p, f.RetryAfter)
}

// retryAfter says when to try again, in whole seconds.
func retryAfter(p *Problem, after time.Duration) error {
	seconds := int((max(time.Second, after) + time.Second - 1) / time.Second)
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {strconv.Itoa(seconds)}})
}
