package outbox

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
)

// picky refuses settlements that say something, or all.
type picky struct {
	all     bool
	settled chan *Settlement
}

func (p *picky) Settle(_ context.Context, _ int64, batch []*Settlement) (int64, error) {
	for _, x := range batch {
		if p.all || x.Logs != nil {
			return 0, &Rejected{errors.New("no")}
		}
	}
	for _, x := range batch {
		p.settled <- x
	}
	return int64(len(batch)), nil
}

type held struct{}

func (held) Epoch() int64 { return 1 }
func (held) Valid() bool  { return true }

// What the database refuses for what it tells is settled without that; what it refuses all the same is told of.
func TestRefusedSettlement(t *testing.T) {
	t.Parallel()
	for name, all := range map[string]bool{"for its logs": false, "for itself": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, stranded, done := &picky{all: all, settled: make(chan *Settlement, 3)}, make(chan struct{}, 3), make(chan struct{}, 3)
			s := NewSettler(store, held{}, func() { stranded <- struct{}{} }, hclog.NewNullLogger())
			defer s.Close()
			for i := range 3 {
				x := &Settlement{Entry: &Entry{ID: uuid.New()}, Outcome: Succeeded}
				if i == 1 {
					x.Logs, x.Error = []byte("["), "\x00"
				}
				s.Settle(x, func() { done <- struct{}{} })
			}
			for range 3 {
				<-done
			}
			if want := map[bool]int{false: 0, true: 3}[all]; len(stranded) != want || len(store.settled) != 3-want {
				t.Errorf("%d were settled, %d are stranded", len(store.settled), len(stranded))
			}
		})
	}
}
