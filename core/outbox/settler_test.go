package outbox

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
)

// picky refuses settlements that say something, or all but those that are lost.
type picky struct {
	all     bool
	settled chan *Settlement
}

func (p *picky) Settle(_ context.Context, _ int64, batch []*Settlement) (int64, error) {
	for _, x := range batch {
		if !x.Lost && (p.all || x.Logs != nil || x.Answer != nil) {
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

// What the database refuses for what it tells, or answers, is settled without that; what it refuses all the same is left to
// the sweep.
func TestRefusedSettlement(t *testing.T) {
	t.Parallel()
	for name, all := range map[string]bool{"for its logs": false, "for itself": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, done := &picky{all: all, settled: make(chan *Settlement, 3)}, make(chan struct{}, 3)
			s := NewSettler(store, held{}, 0, hclog.NewNullLogger())
			defer s.Close()
			for i := range 3 {
				x := &Settlement{Entry: &Entry{ID: uuid.New()}, Outcome: Succeeded}
				switch i {
				case 1:
					x.Logs, x.Error = []byte("["), "\x00"
				case 2:
					x.Answer = &Answer{Status: 200}
				}
				s.Settle(x, func() { done <- struct{}{} })
			}
			for range 3 {
				<-done
			}
			if len(store.settled) != 3 {
				t.Fatalf("%d of 3 are settled", len(store.settled))
			}
			for range 3 {
				if x := <-store.settled; x.Lost != all {
					t.Errorf("settled as %+v", x)
				}
			}
		})
	}
}
