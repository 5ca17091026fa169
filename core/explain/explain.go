// Package explain says why an entry waits and what would let it go on. Pure: core/api gives it what the database and the
// dispatcher know.
package explain

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// Code is a stable word for a reason.
type Code string

// The reasons, in the order in which they are given.
const (
	Cancelling  Code = "cancelling"  // it runs, but somebody wants it stopped
	Running     Code = "running"     // it runs now
	Orphaned    Code = "orphaned"    // the node that ran it is gone
	TargetGone  Code = "target_gone" // its script does not exist or has no active version
	Paused      Code = "paused"      // its lane, script or app is paused
	Delayed     Code = "delayed"     // it was to run later
	Backoff     Code = "backoff"     // it failed, and is tried again later
	Gathering   Code = "gathering"   // it waits for others of its batch
	Gate        Code = "gate"        // others hold its key
	Concurrency Code = "concurrency" // its lane runs as often as it may
	Rate        Code = "rate"        // its lane starts as fast as it may
	Queue       Code = "queue"       // others of its lane are before it
	Slots       Code = "slots"       // every slot is taken
	Soon        Code = "soon"        // nothing holds it
)

// Reason is one thing that holds an entry.
type Reason struct {
	Code    Code
	Message string
	Frees   string      // what would let it go on
	Until   time.Time   // when that is known
	By      []uuid.UUID // entries that are in the way
}

// Facts are what is known of an entry that has not ended.
type Facts struct {
	State     outbox.State
	Now       time.Time // by the database's clock, as are all times
	RunAt     time.Time
	Attempt   int
	LastError string
	Cancelled bool
	Gate      string
	GateLimit int
	Holders   []uuid.UUID    // entries that hold the gate
	Ahead     int            // entries of the lane that start before it, or wait before it at the gate
	Node      string         // that runs it; empty: none does any more
	Lane      *tenant.Lane   // nil: gone
	Target    *tenant.Script // or
	Sink      *tenant.Sink
	Running   int // runs of the lane on this node
	Limit     int // of those; zero: none
	NextStart time.Duration
	FreeSlots int
}

// Why returns the reasons, the strongest first: never none.
func Why(f *Facts) []Reason {
	if f.State == outbox.Running {
		return []Reason{running(f)}
	}
	var out []Reason
	if f.Sink == nil && (f.Target == nil || f.Target.Version == 0) {
		out = append(out, Reason{
			Code: TargetGone, Message: "its script or sink does not exist any more, or the script has no active version",
			Frees: "deploy or activate a version; without one it becomes a dead letter when it is due",
		})
	}
	if f.Lane != nil && f.Lane.Paused {
		out = append(out, Reason{
			Code: Paused, Message: f.Lane.Name + ", its script, its sink or its app is paused", Frees: "resume it",
		})
	}
	switch f.State {
	case outbox.Scheduled:
		return append(out, scheduled(f))
	case outbox.Blocked:
		return append(out, blocked(f))
	}
	if len(out) > 0 {
		return out
	}
	return ready(f)
}

func running(f *Facts) Reason {
	switch {
	case f.Node == "":
		return Reason{
			Code: Orphaned, Message: "the node that ran it is gone",
			Frees: "a live node takes it over within seconds",
		}
	case f.Cancelled:
		return Reason{Code: Cancelling, Message: "it runs, and is to be stopped", Frees: "its node stops it within a second or two"}
	}
	return Reason{
		Code: Running, Message: fmt.Sprintf("attempt %d runs on node %s", f.Attempt, f.Node),
		Frees: "it ends by itself, or at its time limit",
	}
}

func scheduled(f *Facts) Reason {
	in := f.RunAt.Sub(f.Now).Round(time.Millisecond)
	switch {
	case f.Attempt > 0 && f.LastError != "":
		return Reason{
			Code: Backoff, Message: fmt.Sprintf("attempt %d failed (%s); the next is due in %s", f.Attempt, f.LastError, in),
			Frees: "its time, or cancel it", Until: f.RunAt,
		}
	case f.Lane != nil && f.Lane.Policy.Batch != nil && f.Attempt == 0:
		return Reason{
			Code: Gathering, Message: fmt.Sprintf("it waits for others of its batch, for another %s", in),
			Frees: fmt.Sprintf("%d events in all, or its time", f.Lane.Policy.Batch.Size), Until: f.RunAt,
		}
	}
	return Reason{Code: Delayed, Message: fmt.Sprintf("it is due in %s", in), Frees: "its time", Until: f.RunAt}
}

func blocked(f *Facts) Reason {
	return Reason{
		Code: Gate, By: f.Holders,
		Message: fmt.Sprintf("%d of at most %d entries hold its key, and %d wait before it", len(f.Holders), f.GateLimit, f.Ahead),
		Frees:   "the end of one that holds the key: see them for what they wait for, or cancel one",
	}
}

func ready(f *Facts) []Reason {
	var out []Reason
	if f.Lane != nil && f.Limit > 0 && f.Running >= f.Limit {
		out = append(out, Reason{
			Code: Concurrency, Message: fmt.Sprintf("%s runs %d at one time, as many as it may here", f.Lane.Name, f.Running),
			Frees: "the end of a run, or a higher concurrency in its policy",
		})
	}
	if f.Lane != nil && f.NextStart > 0 {
		out = append(out, Reason{
			Code: Rate, Message: fmt.Sprintf("%s starts as fast as its rate allows; the next in %s", f.Lane.Name, f.NextStart.Round(time.Millisecond)),
			Frees: "time, or a higher rate in its policy", Until: f.Now.Add(f.NextStart),
		})
	}
	if f.Ahead > 0 {
		out = append(out, Reason{
			Code: Queue, Message: fmt.Sprintf("%d of its lane are before it", f.Ahead), Frees: "their start, or a lower priority number",
		})
	}
	if f.FreeSlots == 0 {
		out = append(out, Reason{
			Code: Slots, Message: "every slot of this node is taken", Frees: "the end of a run, or more slots in the configuration",
		})
	}
	if len(out) == 0 {
		out = append(out, Reason{Code: Soon, Message: "nothing holds it", Frees: "a node claims it within a second"})
	}
	return out
}
