package plugin_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/sdk/plugin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Everything is sent once, in the order of each sender, in frames that keep their limits.
func TestSenderOrder(t *testing.T) {
	t.Parallel()
	const senders, each = 8, 2000
	type message struct{ from, n int }
	size := func(m message) int { return 1 + m.n%7*20<<10 } // up to 120 KiB
	next := make([]int, senders)
	left := senders * each
	done := make(chan struct{})
	s := plugin.NewSender(func(frame []message) error {
		bytes := 0
		for _, m := range frame {
			bytes += size(m)
			if next[m.from] != m.n {
				t.Errorf("%d of %d, not %d", m.n, m.from, next[m.from])
			}
			next[m.from]++
		}
		if len(frame) == 0 || len(frame) > 32 || len(frame) > 1 && bytes > 256<<10 {
			t.Errorf("a frame of %d messages, %d bytes", len(frame), bytes)
		}
		if left -= len(frame); left == 0 {
			close(done)
		}
		return nil
	}, size)
	var all sync.WaitGroup
	for from := range senders {
		all.Go(func() {
			for n := range each {
				if err := s.Send(message{from, n}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	<-done
	s.Close()
	s.Close()
	if err := s.Send(message{}); !errors.Is(err, plugin.ErrClosed) {
		t.Error(err)
	}
}

// A lone message does not wait for company, and what gathers behind a slow send leaves together.
func TestSenderBatches(t *testing.T) {
	t.Parallel()
	sent, resume := make(chan int), make(chan struct{})
	s := plugin.NewSender(func(frame []int) error {
		sent <- len(frame)
		<-resume
		return nil
	}, func(int) int { return 1 })
	defer s.Close()
	send := func(n int) {
		for i := range n {
			if err := s.Send(i); err != nil {
				t.Error(err)
			}
		}
	}
	send(1)
	for i, want := range []int{1, 32, 8} {
		if n := <-sent; n != want {
			t.Errorf("%d messages, not %d", n, want)
		}
		if i == 0 {
			send(40)
		}
		resume <- struct{}{}
	}
}

func TestSenderEndsWithAnError(t *testing.T) {
	t.Parallel()
	s := plugin.NewSender(func([]int) error { return errors.New("broken") }, func(int) int { return 1 })
	if err := s.Send(1); err != nil {
		t.Error(err)
	}
	<-s.Done()
	if err := s.Send(2); !errors.Is(err, plugin.ErrClosed) {
		t.Error(err)
	}
	s.Close()
}

// A peer that reads nothing does not make us hold without bound what it asks for.
func TestSenderIsBounded(t *testing.T) {
	t.Parallel()
	begun, resume := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := plugin.NewSender(func([]int) error {
		once.Do(func() { close(begun) })
		<-resume
		return nil
	}, func(int) int { return 1 })
	if err := s.Send(0); err != nil {
		t.Fatal(err)
	}
	<-begun
	for i := range 1 << 20 {
		if err := s.Send(i); err != nil {
			if !errors.Is(err, plugin.ErrBehind) || i < 4096+256 { // calls and invocations that an honest engine may have open
				t.Errorf("%v after %d messages", err, i)
			}
			close(resume)
			s.Close()
			return
		}
	}
	t.Error("a million messages wait")
}

func TestWindow(t *testing.T) {
	t.Parallel()
	var w plugin.Window
	take := func(want, got int) {
		t.Helper()
		if n, err := w.Take(t.Context(), want); n != got || err != nil {
			t.Errorf("%d of %d, %v", n, want, err)
		}
	}
	take(2000, 2000)
	take(1, 1) // costs 1 KiB
	take(plugin.WindowBytes, plugin.WindowBytes-2000-1024)
	take(0, 0)
	reason := errors.New("over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if _, err := w.Take(ctx, 1); !errors.Is(err, reason) {
		t.Error(err)
	}
	for _, n := range []int64{-1, plugin.WindowBytes + 1, 1 << 62} {
		if w.Grant(n) == nil {
			t.Errorf("%d bytes were granted", n)
		}
	}
	taken := make(chan int)
	go func() {
		n, err := w.Take(t.Context(), 500)
		if err != nil {
			t.Error(err)
		}
		taken <- n
	}()
	if err := w.Grant(300); err != nil {
		t.Error(err)
	}
	if n := <-taken; n != 300 {
		t.Errorf("%d bytes", n)
	}
	if err := w.Grant(plugin.WindowBytes - 300 + plugin.Cost(300)); err != nil {
		t.Error(err)
	}
	if w.Grant(1) == nil {
		t.Error("more than was ever taken")
	}
}
