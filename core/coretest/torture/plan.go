package torture

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/picloud/picloud/core/failpoint"
)

// Options are all that a seed decides, and so all that there is to know of a run before it begins.
type Options struct {
	Seed   uint64
	Time   time.Duration // of the faults
	Nodes  int
	Slots  []int // by node
	Rate   int   // requests a second
	Slow   bool  `json:",omitempty"` // many requests take seconds
	Calm   bool  `json:",omitempty"` // no request ends its engine, and none takes long
	Shape  string
	Faults []Fault
	Defect *Defect `json:"-"`
}

// Fault is one planned fault.
type Fault struct {
	At     time.Duration // after the beginning
	Kind   string
	Node   int
	Length time.Duration `json:",omitempty"`
	Spec   string        `json:",omitempty"` // of failpoints
	Count  int           `json:",omitempty"`
}

// The kinds of faults. Some take many seconds, so a deck of all is dealt before one comes twice.
const (
	nodeKill        = "node killed"
	nodeFreezeShort = "node frozen for less than a take-over"
	nodeFreezeLong  = "node frozen"
	nodeStop        = "node restarted"
	engineKill      = "engine killed"
	engineFreeze    = "engine frozen"
	backendKill     = "backend killed"
	postmasterKill  = "postmaster killed"
	postgresRestart = "postgres restarted"
	dbDelay         = "database slow"
	dbReset         = "connections reset"
	dbSplit         = "node split from the database"
	dbHoldAnswers   = "answers of the database held"
	dbHoldRequests  = "requests to the database held"
	dbCut           = "connection cut in a message"
	dbLoseAnswers   = "answer of a commit lost"
	dbLoseRequests  = "request of a commit lost"
	failpointKill   = "killed at a failpoint"
	failpointSleep  = "delayed at a failpoint"
	swizzle         = "nodes frozen one by one, woken in another order"
)

var kinds = []string{
	nodeKill, nodeFreezeShort, nodeFreezeLong, nodeStop, engineKill, engineFreeze, backendKill, postmasterKill,
	postgresRestart, dbDelay, dbReset, dbSplit, dbHoldAnswers, dbHoldRequests, dbCut, dbLoseAnswers, dbLoseRequests,
	failpointKill, failpointSleep, swizzle,
}

// The shapes of a plan.
const (
	single      = "single"      // one fault after the other
	Overlapping = "overlapping" // they do not wait for one another
	storm       = "storm"       // many at once, then a pause
)

// killPoints are where a node may die in a running line; the others need something to be going on that is rare.
var killPoints = []string{
	failpoint.HTTPAccepted, failpoint.OutboxInserted, failpoint.OutboxCommitted, failpoint.OutboxClaimed,
	failpoint.EnginePicked, failpoint.RunStarted, failpoint.HostCallBefore, failpoint.HostCallAfter, failpoint.RunReturned,
	failpoint.ReplyDelivered, failpoint.FinishBuffered, failpoint.FinishCommitted, failpoint.RetryScheduled,
	failpoint.DeadCommitted, failpoint.HeartbeatWritten, failpoint.GateLocked, failpoint.GateFilled,
	failpoint.UnitChecked, failpoint.UnitApplied, failpoint.UnitSettled, failpoint.UnitCommitted,
}

// NewOptions derives everything from the seed.
func NewOptions(seed uint64, length time.Duration) Options {
	r := rand.New(rand.NewPCG(seed, 0))
	o := Options{
		Seed: seed, Time: length, Nodes: 1 + r.IntN(3), Rate: 60 + r.IntN(60),
		Shape: []string{single, single, Overlapping, storm}[r.IntN(4)],
	}
	for range o.Nodes {
		o.Slots = append(o.Slots, []int{3, 8, 8, 32}[r.IntN(4)])
	}
	var deck []string
	for at := time.Second; ; {
		if len(deck) == 0 {
			deck = slices.Clone(kinds)
			r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		f := o.fault(r, deck[0], at)
		deck = deck[1:]
		if at+f.Length > length {
			if at+2*time.Second > length {
				return o
			}
			continue // something shorter may fit
		}
		o.Faults = append(o.Faults, f)
		between := time.Duration(300+r.IntN(1200)) * time.Millisecond
		switch {
		case o.Shape == single:
			at += f.Length + 2*between
		case o.Shape == storm && len(o.Faults)%5 != 0:
			at += between / 5
		case o.Shape == storm:
			at += 6 * between
		default:
			at += 2 * between
		}
	}
}

func (o *Options) fault(r *rand.Rand, kind string, at time.Duration) Fault {
	f := Fault{At: at.Round(time.Millisecond), Kind: kind, Node: r.IntN(o.Nodes)}
	between := func(low, high int) time.Duration { return time.Duration(low+r.IntN(high-low)) * time.Millisecond }
	switch kind {
	case nodeKill:
		f.Length = []time.Duration{0, between(100, 1000), between(6000, 9000)}[r.IntN(3)] // until it is started again
	case nodeFreezeShort:
		f.Length = between(500, 5000)
	case nodeFreezeLong, dbSplit:
		f.Length = between(12_000, 16_000)
	case engineFreeze:
		f.Length = between(200, 3000)
	case dbDelay:
		f.Length, f.Count = between(2000, 6000), 20+r.IntN(480) // milliseconds a statement
	case dbHoldAnswers, dbHoldRequests:
		f.Length = between(500, 6000)
	case dbCut:
		f.Count = 1 + r.IntN(20_000)
	case dbLoseAnswers, dbLoseRequests:
		f.Count = 1 + r.IntN(8)
	case failpointKill:
		f.Spec = fmt.Sprintf("%s=kill@%d", killPoints[r.IntN(len(killPoints))], 1+r.IntN(5))
		f.Length = between(2000, 3000) // until it is clear that nobody passes
	case failpointSleep:
		var rules []string
		for range 3 {
			rules = append(rules, fmt.Sprintf("%s=sleep(%dms)@p0.1", failpoint.Names[r.IntN(len(failpoint.Names))], 1+r.IntN(300)))
		}
		f.Spec, f.Length = strings.Join(rules, ";"), between(2000, 5000)
	case swizzle:
		f.Length = between(12_000, 15_000)
	}
	return f
}

func (o Options) String() string {
	text, err := json.MarshalIndent(o, "", " ")
	if err != nil {
		return err.Error()
	}
	return strings.NewReplacer(",\n   ", ", ", "{\n   ", "{", "\n  }", "}").Replace(string(text))
}
