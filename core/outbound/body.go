package outbound

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/picloud/picloud/sdk/fault"
)

// Bounds of what a compressed body may become. What is small may be as dense as it likes.
const (
	maxRatio  = 100
	denseBody = 1 << 20
)

// read takes the body of an answer, and decompresses it if mine: the compression was not the script's wish. release gives
// the room of the body back; after an error there is none.
func (c *Client) read(answer *http.Response, mine bool) (_ []byte, release func(), err error) {
	if answer.Body == http.NoBody { // its length is then that of a body which another request would have had
		return nil, nil, nil
	}
	if answer.ContentLength > MaxBody {
		return nil, nil, errLarge
	}
	raw := &counter{r: answer.Body}
	body := &limited{from: raw, c: c.capacity}
	defer func() {
		if err != nil {
			body.release()
		}
	}()
	if mine && strings.EqualFold(strings.TrimSpace(answer.Header.Get("Content-Encoding")), ownEncoding) {
		plain, err := gzip.NewReader(raw)
		if errors.Is(err, io.EOF) && raw.n == 0 {
			return nil, nil, nil
		}
		if err != nil {
			return nil, nil, errGzip
		}
		body.from, body.packed = plain, raw
		answer.Header.Del("Content-Encoding")
		answer.Header.Del("Content-Length")
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(body); err != nil {
		if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
			return nil, nil, errGzip
		}
		return nil, nil, err
	}
	return out.Bytes(), body.release, nil
}

var (
	errLarge = fault.New(fault.Limit, fault.Script, "the body of the answer has more than %d bytes", MaxBody)
	errDense = fault.New(fault.Limit, fault.Script, "the body of the answer grows to more than %d times its size when it is decompressed", maxRatio)
	errGzip  = fault.New(fault.Unavailable, fault.Script, "the body of the answer is not the gzip that it says it is")
)

// counter counts what it reads.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// limited reads up to the limits, and holds room for what it has read.
type limited struct {
	from   io.Reader
	packed *counter // what from decompresses; nil: nothing
	c      *capacity
	n      int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.from.Read(p)
	l.n += int64(n)
	switch {
	case l.n > MaxBody:
		return n, errLarge
	case l.packed != nil && l.n > denseBody && l.n > maxRatio*l.packed.n:
		return n, errDense
	case !l.c.take(int64(n)):
		l.n -= int64(n)
		return n, errFull
	}
	return n, err
}

func (l *limited) release() { l.c.give(l.n) }
