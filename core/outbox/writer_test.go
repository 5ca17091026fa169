package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is an Inserter in memory. Entries in bad are refused with the whole batch, as a database does.
type table struct {
	mu     sync.Mutex
	rows   map[uuid.UUID]int
	bad    map[uuid.UUID]bool
	calls  int
	again  int
	answer []error // of the next calls, after their effect; nil entries succeed
	enter  chan struct{}
	leave  chan struct{}
}

func (s *table) Insert(_ context.Context, _ int64, entries []*Entry, again bool) ([]error, error) {
	if s.enter != nil {
		s.enter <- struct{}{}
		<-s.leave
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if again {
		s.again++
	}
	for _, e := range entries {
		if s.bad[e.ID] {
			return nil, &Rejected{Err: fmt.Errorf("bad row %s", e.ID)}
		}
	}
	for _, e := range entries {
		if s.rows[e.ID] == 0 || !again {
			s.rows[e.ID]++
		}
	}
	if len(s.answer) > 0 {
		err := s.answer[0]
		if s.answer = s.answer[1:]; err != nil {
			return nil, err
		}
	}
	return nil, nil
}

type fixedLease struct{ valid bool }

func (l *fixedLease) Epoch() int64 { return 1 }
func (l *fixedLease) Valid() bool  { return l.valid }

func newEntry() *Entry { return &Entry{ID: uuid.New(), Envelope: []byte("e")} }

// appendAll appends entries and returns what each was told.
func appendAll(w *Writer, entries []*Entry) []error {
	errs := make([]error, len(entries))
	var done sync.WaitGroup
	for i, e := range entries {
		done.Add(1)
		w.Append(e, func(err error) { errs[i] = err; done.Done() })
	}
	done.Wait()
	return errs
}

func TestOneBadEntryFailsAlone(t *testing.T) {
	t.Parallel()
	var entries []*Entry
	for range 64 {
		entries = append(entries, newEntry())
	}
	store := &table{rows: map[uuid.UUID]int{}, bad: map[uuid.UUID]bool{entries[17].ID: true}}
	w := NewWriter(store, &fixedLease{true}, hclog.NewNullLogger())
	defer w.Close()
	for i, err := range appendAll(w, entries) {
		var rejected *Rejected
		if bad := i == 17; bad != errors.As(err, &rejected) {
			t.Errorf("entry %d: %v", i, err)
		}
		if want := 1; i != 17 && store.rows[entries[i].ID] != want {
			t.Errorf("entry %d was written %d times", i, store.rows[entries[i].ID])
		}
	}
}

func TestUnknownCommitIsRepeatedAsATouch(t *testing.T) {
	t.Parallel()
	store := &table{rows: map[uuid.UUID]int{}, answer: []error{errors.New("connection lost after COMMIT")}}
	w := NewWriter(store, &fixedLease{true}, hclog.NewNullLogger())
	defer w.Close()
	e := newEntry()
	if err := appendAll(w, []*Entry{e})[0]; err != nil {
		t.Fatal(err)
	}
	if store.rows[e.ID] != 1 || store.again != 1 {
		t.Fatalf("written %d times, %d repeats", store.rows[e.ID], store.again)
	}
}

// inserts is an Inserter made of a function.
type inserts func(ctx context.Context, entries []*Entry, again bool) error

func (f inserts) Insert(ctx context.Context, _ int64, entries []*Entry, again bool) ([]error, error) {
	return nil, f(ctx, entries, again)
}

// A database that beats well and answers no INSERT is not asked for ever: neither by one batch nor by the halves of it. Who
// comes behind has a time of its own.
func TestUnknownIsGivenUp(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, insert := range map[string]inserts{
		"broken": func(context.Context, []*Entry, bool) error { return broken },
		"silent": func(ctx context.Context, _ []*Entry, _ bool) error { <-ctx.Done(); return ctx.Err() },
		"broken, then halved": func(_ context.Context, entries []*Entry, again bool) error {
			if again && len(entries) > 1 {
				return &Rejected{broken}
			}
			return broken
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				lease, well, first := &fixedLease{true}, false, make(chan struct{})
				w := NewWriter(inserts(func(ctx context.Context, entries []*Entry, again bool) error {
					switch {
					case first != nil: // the others queue up meanwhile
						<-first
						first = nil
						return nil
					case well:
						return nil
					}
					return insert(ctx, entries, again)
				}), lease, hclog.NewNullLogger())
				defer func() { lease.valid = false; w.Close() }()
				w.Append(newEntry(), func(error) {})
				synctest.Wait()
				told := make(chan error, 4)
				for range 4 {
					w.Append(newEntry(), func(err error) { told <- err })
				}
				begin := time.Now()
				close(first)
				pause(RepeatFor - time.Second)
				synctest.Wait()
				if len(told) != 0 {
					t.Fatalf("%d were told after %v", len(told), time.Since(begin))
				}
				pause(time.Second + insertTimeout)
				synctest.Wait()
				if len(told) != 4 {
					t.Fatalf("%d of 4 were told", len(told))
				}
				for range 4 {
					if err := <-told; !errors.Is(err, ErrUnknown) {
						t.Errorf("told %v", err)
					}
				}
				well = true
				if err := appendAll(w, []*Entry{newEntry()})[0]; err != nil {
					t.Errorf("the next was told %v", err)
				}
			})
		})
	}
}

func TestNothingIsWrittenWithoutALease(t *testing.T) {
	t.Parallel()
	store := &table{rows: map[uuid.UUID]int{}}
	w := NewWriter(store, &fixedLease{false}, hclog.NewNullLogger())
	defer w.Close()
	if err := appendAll(w, []*Entry{newEntry()})[0]; !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
	if store.calls != 0 {
		t.Fatal("the database was asked")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := NewWriter(&table{rows: map[uuid.UUID]int{}}, &fixedLease{true}, hclog.NewNullLogger())
	deep := newEntry()
	deep.Depth = MaxDepth + 1
	if err := appendAll(w, []*Entry{deep})[0]; !errors.Is(err, ErrTooDeep) {
		t.Error(err)
	}
	w.Close()
	if err := appendAll(w, []*Entry{newEntry()})[0]; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// While one batch is on its way, what comes queues up and leaves together; a large payload travels alone.
func TestWriterTakesWhatIsQueued(t *testing.T) {
	t.Parallel()
	store := &table{rows: map[uuid.UUID]int{}, enter: make(chan struct{}), leave: make(chan struct{})}
	w := NewWriter(store, &fixedLease{true}, hclog.NewNullLogger())
	var done sync.WaitGroup
	add := func(e *Entry) { done.Add(1); w.Append(e, func(error) { done.Done() }) }
	add(newEntry())
	<-store.enter // the first batch is on its way
	for range 10 {
		add(newEntry())
	}
	large := newEntry()
	large.Payload = make([]byte, aloneBytes)
	add(large)
	add(newEntry())
	store.leave <- struct{}{}
	for range 3 {
		<-store.enter
		store.leave <- struct{}{}
	}
	done.Wait()
	w.Close()
	if store.calls != 4 || len(store.rows) != 13 {
		t.Fatalf("%d statements for %d rows", store.calls, len(store.rows))
	}
}
