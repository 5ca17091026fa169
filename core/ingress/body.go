package ingress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/picloud/picloud/sdk/fault"
)

// How a body must come: the time that everybody has, and the rate beyond it. bodyFirst is what is set aside before any of
// it has come: what a caller announces costs nothing, and must not cost us.
const (
	bodyPatience = 15 * time.Second
	bodyRate     = 64 << 10 // bytes a second
	bodyFirst    = 64 << 10
)

// heldBytes is how much of bodies beyond bodyFirst there may be, from when it has come until its request is answered: nobody has to say who
// he is to send one.
const (
	heldBytes = 128 << 20 // it takes two or three times as much memory
	heldWait  = time.Second
)

func (in *Ingress) newSpace() *space { return &space{of: in.held, wait: in.heldWait} }

// readBody reads the whole body, at most MaxBody bytes, into space.
func (in *Ingress) readBody(w http.ResponseWriter, r *http.Request, space *space) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	size := r.ContentLength
	if size > in.cfg.MaxBody {
		return nil, &http.MaxBytesError{Limit: in.cfg.MaxBody}
	}
	if size < 0 {
		size = in.cfg.MaxBody // it does not say
	}
	connection := http.NewResponseController(w)
	if err := connection.SetReadDeadline(time.Now().Add(in.bodyPatience + time.Duration(size)*time.Second/bodyRate)); err != nil {
		return nil, err
	}
	body := bytes.NewBuffer(make([]byte, 0, min(size+bytes.MinRead, bodyFirst)))
	if _, err := body.ReadFrom(&counted{Reader: http.MaxBytesReader(w, r.Body, in.cfg.MaxBody), ctx: r.Context(), space: space}); err != nil {
		return nil, err
	}
	return body.Bytes(), connection.SetReadDeadline(time.Time{})
}

// space is what one request has of the bytes that all may hold.
type space struct {
	of   *semaphore.Weighted
	has  int64
	wait time.Duration
}

// errCrowded says that others hold as much as there may be.
var errCrowded = errors.New("too many large bodies are held at one time")

// grow takes bytes more, or waits for them a while.
func (s *space) grow(ctx context.Context, bytes int64) error {
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	if s.of.Acquire(ctx, bytes) != nil {
		return errCrowded
	}
	s.has += bytes
	return nil
}

// free gives all back.
func (s *space) free() { s.of.Release(s.has) }

// counted asks for space for what has come, in steps of bodyFirst. What comes first is free.
type counted struct {
	io.Reader
	ctx   context.Context
	space *space
	read  int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.read += int64(n); c.read > c.space.has+bodyFirst {
		steps := (c.read - c.space.has - 1) / bodyFirst
		if crowded := c.space.grow(c.ctx, steps*bodyFirst); crowded != nil {
			return n, crowded
		}
	}
	return n, err
}

func bodyProblem(err error, limit int64) problem {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return problem{
			Status: http.StatusRequestEntityTooLarge, Kind: "body_too_large",
			Detail: "the body is larger than " + strconv.FormatInt(limit, 10) + " bytes",
		}
	}
	if errors.Is(err, errCrowded) {
		return problem{
			Status: http.StatusServiceUnavailable, Kind: string(fault.Unavailable), Detail: err.Error() + "; try again", RetryAfter: heldWait,
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problem{Status: http.StatusRequestTimeout, Kind: "request_timeout", Detail: "the body came too slowly"}
	}
	return problem{Status: http.StatusBadRequest, Kind: "bad_request", Detail: "the body cannot be read to its end"}
}
