package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
)

// gateModel is what the gates of one app ought to do: each lets its first entries through, in their order of coming, as
// many as its limit. It is kept beside the database, which is asked after each step whether it agrees.
type gateModel struct {
	*races
	app, lane uuid.UUID
	random    *rand.Rand
	queues    map[string][]*gateEntry // those that have not ended and are before or through the gate, in order
	running   []*gateEntry
	epoch     int64 // of the node that claims
	said      []string
}

type gateEntry struct {
	*outbox.Entry
	owner int64
}

// limits of the gates that the model has.
var gateLimits = map[string]int{outbox.OrderGate("a"): 1, outbox.OrderGate("b"): 1, "limit/x/k": 2, "limit/x/l": 3}

func (m *gateModel) gates() []string {
	var keys []string
	for k := range gateLimits {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (m *gateModel) say(format string, args ...any) {
	m.said = append(m.said, fmt.Sprintf(format, args...))
}

// come has up to three entries come at once.
func (m *gateModel) come() {
	var batch []*outbox.Entry
	for range 1 + m.random.IntN(3) {
		e := m.entry(outbox.Ready)
		e.App, e.Lane, e.Target = m.app, m.lane, m.lane
		e.Gate = m.gates()[m.random.IntN(len(gateLimits))]
		e.GateLimit = gateLimits[e.Gate]
		batch = append(batch, e)
		m.queues[e.Gate] = append(m.queues[e.Gate], &gateEntry{Entry: e})
		m.say("comes %s to %s", e.ID, e.Gate)
	}
	m.must(m.insert(m.epoch, false, batch...))
}

func (m *gateModel) claimSome() {
	claimed, err := m.store.Claim(m.Context(), m.epoch, quotas(m.app, m.lane, 1+m.random.IntN(3)))
	m.must(err)
	for _, e := range claimed {
		m.running = append(m.running, &gateEntry{Entry: e, owner: m.epoch})
		m.say("claimed %s", e.ID)
	}
}

// end settles one of those that run.
func (m *gateModel) end() {
	if len(m.running) == 0 {
		return
	}
	i := m.random.IntN(len(m.running))
	e := m.running[i]
	m.running = slices.Delete(m.running, i, i+1)
	x := &outbox.Settlement{Entry: e.Entry, Outcome: []outbox.Outcome{outbox.Succeeded, outbox.DeadLettered, outbox.Retried}[m.random.IntN(3)]}
	if e.Attempt >= 4 {
		x.Outcome = outbox.Succeeded
	}
	x.Reason = outbox.ReasonFatal
	x.Uncharged = x.Outcome == outbox.Retried && m.random.IntN(2) == 0
	n, err := m.store.Settle(m.Context(), e.owner, []*outbox.Settlement{x})
	m.must(err)
	if n != 1 {
		m.Fatalf("settled %d", n)
	}
	m.say("%s ended as %d", e.ID, x.Outcome)
	if x.Outcome != outbox.Retried {
		m.leave(e.Gate, e.ID)
	}
}

func (m *gateModel) leave(gate string, id uuid.UUID) {
	m.queues[gate] = slices.DeleteFunc(m.queues[gate], func(e *gateEntry) bool { return e.ID == id })
}

// cancel ends one that waits, wherever it is.
func (m *gateModel) cancel() {
	for _, gate := range m.gates() {
		for _, e := range m.queues[gate] {
			if m.random.IntN(8) > 0 || slices.ContainsFunc(m.running, func(x *gateEntry) bool { return x.ID == e.ID }) {
				continue
			}
			ended, err := postgres.NewEntryStore(m.pool).Cancel(m.Context(), uuid.Nil, m.app, e.ID)
			m.must(err)
			if !ended {
				m.Fatalf("%s was not cancelled", e.ID)
			}
			m.say("cancelled %s", e.ID)
			m.leave(gate, e.ID)
			return
		}
	}
}

// crash has the node die with all that runs. The next life takes it over.
func (m *gateModel) crash() {
	m.die(m.epoch)
	m.epoch++
	m.exec(`INSERT INTO nodes (epoch, name) VALUES ($1, 'next')`, m.epoch)
	_, ended := m.sweep()
	m.say("crashed")
	for _, e := range m.running {
		if e.Attempt >= e.MaxAttempts {
			m.leave(e.Gate, e.ID)
			ended--
		}
	}
	if ended != 0 {
		m.Fatalf("the sweep ended %d too many", ended)
	}
	m.running = nil
}

// check asks the database whether those are through who ought to be.
func (m *gateModel) check() {
	m.Helper()
	for _, gate := range m.gates() {
		queue := m.queues[gate]
		through := queue[:min(len(queue), gateLimits[gate])]
		for i, e := range queue {
			held := one[bool](m.races, `SELECT gate_held FROM outbox WHERE id = $1`, e.ID)
			if want := i < len(through); held != want {
				m.Fatalf("at %s the entry %d of %d is through: %v\n%s", gate, i, len(queue), held, join(m.said))
			}
		}
	}
	if n := m.orphans(); n != 0 {
		m.Fatalf("%d orphans\n%s", n, join(m.said))
	}
}

func join(lines []string) (out string) {
	for _, l := range lines[max(0, len(lines)-30):] {
		out += l + "\n"
	}
	return out
}

// TestGateModel does at random what may happen to entries with a gate, and compares the database with the model after
// each step. In the end everything has ended.
func TestGateModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			m := &gateModel{
				races: newRaces(t), app: uuid.New(), lane: uuid.New(), random: rand.New(rand.NewPCG(seed, 0)),
				queues: map[string][]*gateEntry{}, epoch: there + 1,
			}
			m.exec(`INSERT INTO nodes (epoch, name) VALUES ($1, 'first')`, m.epoch)
			for range 80 {
				switch m.random.IntN(10) {
				case 0, 1, 2:
					m.come()
				case 3, 4, 5:
					m.claimSome()
				case 6, 7:
					m.end()
				case 8:
					m.cancel()
				case 9:
					m.crash()
				}
				m.check()
			}
			for left := true; left; left = one[bool](m.races, `SELECT EXISTS (SELECT 1 FROM outbox)`) {
				m.claimSome()
				m.end()
			}
			m.check()
		})
	}
}
