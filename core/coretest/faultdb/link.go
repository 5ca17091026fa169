package faultdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// link is one connection through the proxy. It reads along, so that it knows what a commit is.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	done           chan struct{} // closed by cut
	once           sync.Once

	mu     sync.Mutex
	name   string          // application_name
	writes map[string]bool // by statement name: it changes something
	cycles []bool          // sent and not answered, in order: the cycle commits something if it ends outside a transaction
	commit bool            // the cycle that is being sent does
	inside bool            // of a transaction, by the last answer
}

var errCut = errors.New("cut")

func newLink(p *Proxy, client, server net.Conn) *link {
	return &link{proxy: p, client: client, server: server, done: make(chan struct{}), writes: map[string]bool{}}
}

func (l *link) cut() {
	l.once.Do(func() {
		close(l.done)
		reset(l.client)
		reset(l.server)
	})
}

// run passes on what comes until either side ends.
func (l *link) run() {
	defer l.cut()
	var pumps sync.WaitGroup
	pumps.Go(func() { defer l.cut(); _ = l.requests() })
	pumps.Go(func() { defer l.cut(); _ = l.answers() })
	pumps.Wait()
}

// requests passes on what the client says.
func (l *link) requests() error {
	r := bufio.NewReaderSize(l.client, 64<<10)
	if err := l.startup(r); err != nil {
		return err
	}
	for {
		kind, message, err := readMessage(r)
		if err != nil {
			return err
		}
		if f := l.proxy.rewriter(); f != nil && kind == 'P' {
			message = rewritten(message, f)
		}
		ends := l.heed(kind, message[5:])
		if err := l.wait(ends, func(f Fault) bool { return f.HoldRequests }); err != nil {
			return err
		}
		if ends {
			l.mu.Lock()
			commits := l.commit && (!l.inside || kind == 'Q')
			l.cycles, l.commit = append(l.cycles, l.commit), false
			l.mu.Unlock()
			if commits && l.proxy.take(&l.proxy.loseRequests, &l.proxy.stats.LostRequests) {
				return errCut
			}
		}
		if _, err := l.server.Write(message); err != nil {
			return err
		}
	}
}

// answers passes on what the server says.
func (l *link) answers() error {
	r := bufio.NewReaderSize(l.server, 64<<10)
	var held []byte // of a cycle that is not known to be committed
	for {
		kind, message, err := readMessage(r)
		if err != nil {
			return err
		}
		held = append(held, message...)
		if kind == 'Z' && l.answered(message[5]) && l.proxy.take(&l.proxy.loseAnswers, &l.proxy.stats.LostAnswers) {
			return errCut
		}
		if kind != 'Z' && r.Buffered() > 0 && len(held) < 1<<20 {
			continue
		}
		if err := l.wait(false, func(f Fault) bool { return f.HoldAnswers }); err != nil {
			return err
		}
		n := l.proxy.allow(len(held))
		if _, err := l.client.Write(held[:n]); err != nil {
			return err
		}
		if n < len(held) {
			return errCut
		}
		held = held[:0]
	}
}

// answered takes note of the end of a cycle and reports whether something is committed by it.
func (l *link) answered(status byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside = status != 'I'
	if len(l.cycles) == 0 {
		return false // the log-in
	}
	commit := l.cycles[0]
	l.cycles = l.cycles[1:]
	return commit && !l.inside
}

// wait holds the connection back for as long as a fault says so.
func (l *link) wait(statement bool, holds func(Fault) bool) error {
	for {
		l.mu.Lock()
		name := l.name
		l.mu.Unlock()
		f, changed := l.proxy.current(name)
		var enough <-chan time.Time
		if !holds(f) {
			if !statement || f.Delay == 0 {
				return nil
			}
			timer := time.NewTimer(f.Delay)
			defer timer.Stop()
			enough = timer.C
		}
		select {
		case <-enough:
			return nil
		case <-changed:
		case <-l.done:
			return errCut
		}
	}
}

// startup passes on the first message, which has no type, and finds the application's name in it.
func (l *link) startup(r *bufio.Reader) error {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head)
	if n < 8 || n > 1<<16 {
		return fmt.Errorf("a first message of %d bytes", n)
	}
	message := append(head, make([]byte, n-4)...)
	if _, err := io.ReadFull(r, message[4:]); err != nil {
		return err
	}
	fields := strings.Split(string(message[8:]), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "application_name" {
			l.mu.Lock()
			l.name = fields[i+1]
			l.mu.Unlock()
		}
	}
	if err := l.wait(false, func(f Fault) bool { return f.HoldRequests }); err != nil {
		return err
	}
	_, err := l.server.Write(message)
	return err
}

// heed reads a message of the client and reports whether it ends a cycle: the server answers it with ReadyForQuery.
func (l *link) heed(kind byte, body []byte) (ends bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch kind {
	case 'P': // Parse: the statement's name, its text
		name, rest, _ := bytes.Cut(body, []byte{0})
		text, _, _ := bytes.Cut(rest, []byte{0})
		l.writes[string(name)] = changes(string(text))
	case 'B': // Bind: the portal's name, the statement's
		_, rest, _ := bytes.Cut(body, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		l.commit = l.commit || l.writes[string(name)]
	case 'Q':
		l.commit = l.commit || changes(string(body))
		return true
	case 'S':
		return true
	}
	return false
}

// rewritten returns a Parse message with another text: name, text, types of the parameters.
func rewritten(message []byte, f func(sql string) string) []byte {
	name, rest, _ := bytes.Cut(message[5:], []byte{0})
	text, types, _ := bytes.Cut(rest, []byte{0})
	body := bytes.Join([][]byte{name, []byte(f(string(text))), types}, []byte{0})
	return append(binary.BigEndian.AppendUint32([]byte{'P'}, uint32(4+len(body))), body...)
}

// changes reports whether a statement changes something, or commits what others changed.
func changes(sql string) bool {
	sql = strings.ToUpper(sql)
	for _, word := range []string{"INSERT INTO", "UPDATE ", "DELETE FROM", "COMMIT"} {
		if strings.Contains(sql, word) {
			return true
		}
	}
	return false
}

// readMessage reads a whole message: type, length, body.
func readMessage(r *bufio.Reader) (kind byte, message []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > 1<<30 {
		return 0, nil, fmt.Errorf("a message of %d bytes", n)
	}
	message = make([]byte, 1+n)
	copy(message, head[:])
	_, err = io.ReadFull(r, message[5:])
	return head[0], message, err
}
