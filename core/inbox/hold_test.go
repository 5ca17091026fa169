package inbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// kept gathers an answer.
type kept struct {
	status int
	data   string
}

func (k *kept) Head(h engine.Head) error {
	k.status = h.Status
	return nil
}

func (k *kept) Write(p []byte) (int, error) {
	k.data += string(p)
	return len(p), nil
}

func write(r *Reply, chunks ...string) error {
	if err := r.Head(engine.Head{Status: 200}); err != nil {
		return err
	}
	for _, c := range chunks {
		if _, err := r.Write([]byte(c)); err != nil {
			return err
		}
	}
	return r.End(nil)
}

// A held reply delivers nothing; what becomes of it is decided by Release.
func TestHold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		release           Release
		gathers, delivers bool
	}{
		"detached": {Detached, true, false},
		"attached": {Attached, false, true},
		"in doubt": {InDoubt, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := setup(t)
				k := &kept{}
				r.Keep(k, false)
				if !w.Hold() || w.Hold() {
					t.Fatal("a reply is held once")
				}
				ended := make(chan error)
				go func() { ended <- write(r, "a", "b", "c") }()
				synctest.Wait()
				if len(w.parts) != 0 {
					t.Fatal("a held reply was delivered")
				}
				w.Release(c.release)
				got := ""
				if c.delivers {
					for {
						p, err := w.Next(t.Context(), nil)
						if err != nil {
							t.Fatal(err)
						}
						if got += string(p.Data); p.End {
							break
						}
					}
				}
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				if c.delivers && got != "abc" || c.gathers != (k.data == "abc") || c.gathers != (k.status == 200) || len(w.parts) != 0 {
					t.Errorf("the caller got %q, kept is %+v", got, k)
				}
				if r.Released() != c.release {
					t.Errorf("released as %v", r.Released())
				}
			})
		})
	}
}

// An answer that is on its way cannot be held any more, nor one that nobody waits for.
func TestHoldComesTooLate(t *testing.T) {
	t.Parallel()
	w, r := setup(t)
	if err := write(r, "x"); err != nil {
		t.Fatal(err)
	}
	if w.Hold() {
		t.Error("the answer is on its way")
	}
	w, _ = setup(t)
	w.Close()
	if w.Hold() {
		t.Error("nobody waits")
	}
}

// The leaving of a caller ends a run only while the run has it.
func TestLeavingAfterRelease(t *testing.T) {
	t.Parallel()
	for release, ends := range map[Release]bool{Attached: true, Detached: false, InDoubt: false} {
		w, r := setup(t)
		r.Keep(&kept{}, false)
		gone := 0
		r.OnGone(func() { gone++ })
		w.Hold()
		w.Release(release)
		w.Close()
		if (gone == 1) != ends {
			t.Errorf("released as %v: told %d times", release, gone)
		}
		late := 0
		r.OnGone(func() { late++ })
		if (late == 1) != ends {
			t.Errorf("released as %v: told %d times afterwards", release, late)
		}
		if err := write(r, "x"); errors.Is(err, ErrGone) != ends {
			t.Errorf("released as %v: %v", release, err)
		}
	}
}

// A run that begins after its caller was let go still finds its reply.
func TestDetachedBeforeTheRunBegins(t *testing.T) {
	t.Parallel()
	var in Inbox
	id := uuid.New()
	w := in.Register(id)
	w.Hold()
	w.Release(Detached)
	w.Close()
	r, err := in.Reply(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	k := &kept{}
	r.Keep(k, false)
	if err := write(r, "late"); err != nil || k.data != "late" || r.Released() != Detached {
		t.Fatalf("%v %+v", err, k)
	}
}

// Who leaves while the reply is held frees the run.
func TestCloseEndsAHold(t *testing.T) {
	t.Parallel()
	w, r := setup(t)
	w.Hold()
	ended := make(chan error)
	go func() { ended <- r.End(fault.New(fault.Deadline, fault.Script, "late")) }()
	w.Close()
	if err := <-ended; !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
}

// An answer that is always kept is whole, whether its caller stays or leaves.
func TestAlwaysKept(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{true, false} {
		w, r := setup(t)
		k := &kept{}
		r.Keep(k, true)
		if leaves {
			w.Close()
		} else {
			go func() {
				for {
					if p, err := w.Next(t.Context(), nil); err != nil || p.End {
						return
					}
				}
			}()
		}
		if err := write(r, "a", "b", "c", "d"); err != nil || k.data != "abcd" {
			t.Errorf("leaves %v: %v %+v", leaves, err, k)
		}
	}
}

// The answer, the hold and the caller's leaving may come in any order: the answer then is with the caller, kept, or lost
// with a caller that has left, and never at two places unless it is in doubt.
func TestHoldRaces(t *testing.T) {
	t.Parallel()
	for i := range 3000 {
		var in Inbox
		id := uuid.New()
		w := in.Register(id)
		r, err := in.Reply(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		k := &kept{}
		r.Keep(k, false)
		ran, cancel := context.WithCancel(context.Background())
		r.OnGone(cancel)
		release := Release(i % 3)
		leaves := i%2 == 0
		var held bool
		var got string
		var ended error
		var parts sync.WaitGroup
		parts.Go(func() { ended = write(r, "x") })
		parts.Go(func() {
			if held = w.Hold(); held {
				w.Release(release)
			}
			if held && release == Detached {
				return
			}
			if leaves {
				w.Close()
				return
			}
			if p, err := w.Next(context.Background(), nil); err == nil {
				got = string(p.Data)
			}
		})
		parts.Wait()
		detached := held && release == Detached
		switch {
		case detached && (k.data != "x" || got != "" || ended != nil || ran.Err() != nil):
			t.Fatalf("detached: got %q, kept %q, %v", got, k.data, ended)
		case held && release == InDoubt && (k.data != "x" || ended != nil || ran.Err() != nil || !leaves && got != "x"):
			t.Fatalf("in doubt: got %q, kept %q, %v", got, k.data, ended)
		case (!held || release == Attached) && (k.data != "" || !leaves && got != "x" || leaves && ran.Err() == nil):
			t.Fatalf("attached: got %q, kept %q, %v", got, k.data, ended)
		}
		cancel()
		w.Close()
	}
}
