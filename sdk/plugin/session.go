package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// CallLimit bounds what a plugin must answer at once, such as what it is.
const CallLimit = 5 * time.Second

// frames is a frame of a kind's protocol, by its pointer.
type frames[F, M any] interface {
	*F
	GetMessages() []M
}

// Link is the host's end of a session with a plugin's process. Safe for concurrent use.
type Link[M any] struct {
	sender *Sender[M]
	next   func() ([]M, error) // messages of the next frame
	cancel context.CancelFunc
	lost   chan struct{}

	mu  sync.Mutex
	err error
}

// Open opens a session by a method of the kind's generated client. ctx bounds that alone: the session lasts until Close, or until
// Receive ends it. frame makes a frame of messages; size is a message's rough size in bytes.
func Open[F, M any, P frames[F, M]](
	ctx context.Context, session func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[F, F], error),
	frame func([]M) P, size func(M) int,
) (*Link[M], error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := session(life)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open session: %w", err)
	}
	waits := context.AfterFunc(ctx, cancel)
	if header, err := stream.Header(); err != nil || header == nil || !waits() { // without headers it has ended already
		cancel()
		return nil, fmt.Errorf("open session: %w", errors.Join(err, context.Cause(ctx)))
	}
	return &Link[M]{
		sender: NewSender(func(batch []M) error { return stream.Send(frame(batch)) }, size),
		next: func() ([]M, error) {
			f, err := stream.Recv()
			return P(f).GetMessages(), err
		},
		cancel: cancel, lost: make(chan struct{}),
	}, nil
}

// Send queues a message and does not block. Where that fails the session is at its end, or comes to it.
func (l *Link[M]) Send(m M) error {
	err := l.sender.Send(m)
	if err != nil {
		l.cancel()
	}
	return err
}

// Receive calls handle with one message after the other until the session ends, which an error of handle brings about: the plugin has
// broken its contract. It then calls ended with the reason, if it is not nil, and closes Lost. It is called once.
func (l *Link[M]) Receive(handle func(M) error, ended func(error)) {
	err := l.receive(handle)
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	l.cancel() // before Close: a send in progress ends with the stream
	l.sender.Close()
	if ended != nil {
		ended(err)
	}
	close(l.lost)
}

func (l *Link[M]) receive(handle func(M) error) error {
	for {
		messages, err := l.next()
		if err != nil {
			return fmt.Errorf("receive: %w", err) // whatever it is: io.EOF, a broken connection, garbage
		}
		for _, m := range messages {
			if err := handle(m); err != nil {
				return fmt.Errorf("%w: %w", ErrProtocol, err)
			}
		}
	}
}

// Lost is closed when the session has ended: the process is gone, or of no use any more.
func (l *Link[M]) Lost() <-chan struct{} { return l.lost }

// Err is why the session ended; nil while it lasts. It wraps ErrProtocol where the plugin broke its contract.
func (l *Link[M]) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close ends the session, and waits until Receive has seen to that.
func (l *Link[M]) Close() {
	l.cancel()
	<-l.lost
}

// Attend serves the plugin's end of a session: it calls handle with one message after the other, and framed, if it is not nil, after those
// that came together. It returns when the host is gone or has hung up, which is no error, or does not read what sender sends.
func Attend[F, M any, P frames[F, M]](
	stream grpc.BidiStreamingServer[F, F], sender *Sender[M], handle func(M), framed func(),
) error {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			f, err := stream.Recv()
			if err != nil {
				return
			}
			for _, m := range P(f).GetMessages() {
				handle(m)
			}
			if framed != nil {
				framed()
			}
		}
	}()
	select {
	case <-gone:
		return nil
	case <-sender.Done():
		return errors.New("the session's messages cannot be sent")
	}
}
