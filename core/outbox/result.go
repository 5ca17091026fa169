package outbox

// Result is how far an entry has come, for whoever holds its id.
type Result struct {
	Answer  *Answer // what was kept of the run; nil: nothing, or it has not ended
	Outcome Outcome // how it ended, where there is no answer; zero: it has not ended
	Reason  string
	State   State // until it ends
}

// Pending reports whether the entry has not ended.
func (r *Result) Pending() bool { return r.Answer == nil && r.Outcome == 0 }

func (s State) String() string {
	switch s {
	case Scheduled:
		return "scheduled"
	case Ready:
		return "ready"
	case Running:
		return "running"
	case Blocked:
		return "blocked"
	}
	return "unknown"
}
