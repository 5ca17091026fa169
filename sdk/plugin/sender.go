package plugin

import (
	"errors"
	"sync"
)

// Limits of a frame. The writer takes what is queued and never waits for more, so a lone message is not delayed and a
// busy stream pays for one system call where there were thirty-two.
const (
	frameMessages = 32
	frameBytes    = 256 << 10
)

// queueMessages bounds what may wait to be sent. Credit, the window of invocations and the limit of open calls keep a
// queue far below it; it is for a peer that goes on asking and reads no answer.
const queueMessages = 1 << 14

// ErrClosed says that the stream has ended.
var ErrClosed = errors.New("the stream is closed")

// ErrBehind says that the peer does not read what it is sent. The stream is of no use any more.
var ErrBehind = errors.New("the peer does not read its messages")

// Sender queues messages and sends them in frames on one goroutine, so that whoever receives can answer without waiting.
// Safe for concurrent use.
type Sender[M any] struct {
	send func([]M) error
	size func(M) int

	mu     sync.Mutex
	queue  []M
	closed bool
	wake   chan struct{}
	ended  chan struct{}
}

// NewSender starts a sender. send writes one frame and may block; size is a message's rough size in bytes. It ends with
// Close, or with the first error of send.
func NewSender[M any](send func([]M) error, size func(M) int) *Sender[M] {
	s := &Sender[M]{send: send, size: size, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go s.loop()
	return s
}

// Send queues a message and does not block. It fails once the stream has ended, and with ErrBehind when too much waits.
func (s *Sender[M]) Send(m M) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	if len(s.queue) == queueMessages {
		s.mu.Unlock()
		return ErrBehind
	}
	s.queue = append(s.queue, m)
	first := len(s.queue) == 1
	s.mu.Unlock()
	if first {
		s.signal()
	}
	return nil
}

// Close ends the sender without sending what is queued, and waits for a send in progress.
func (s *Sender[M]) Close() {
	s.shut()
	<-s.ended
}

// Done is closed when the sender has ended.
func (s *Sender[M]) Done() <-chan struct{} { return s.ended }

func (s *Sender[M]) shut() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
}

func (s *Sender[M]) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Sender[M]) loop() {
	defer close(s.ended)
	var spare []M // the queue's backing array alternates between two
	for range s.wake {
		for {
			s.mu.Lock()
			batch, closed := s.queue, s.closed
			s.queue = spare[:0]
			s.mu.Unlock()
			if closed {
				return
			}
			if len(batch) == 0 {
				spare = batch
				break
			}
			if !s.flush(batch) {
				s.shut()
				return
			}
			clear(batch)
			spare = batch
		}
	}
}

func (s *Sender[M]) flush(batch []M) bool {
	for len(batch) > 0 {
		n, bytes := 0, 0
		for n < len(batch) && n < frameMessages {
			bytes += s.size(batch[n])
			if n > 0 && bytes > frameBytes {
				break
			}
			n++
		}
		if s.send(batch[:n]) != nil {
			return false
		}
		batch = batch[n:]
	}
	return true
}
