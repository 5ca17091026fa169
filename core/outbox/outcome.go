package outbox

import "time"

// Outcome says how one attempt ended.
type Outcome int16

// The outcomes. All but Retried are final states of the entry.
const (
	Succeeded     Outcome = 1
	Retried       Outcome = 2 // this attempt failed, another follows
	DeadLettered  Outcome = 3
	Cancelled     Outcome = 4
	Expired       Outcome = 5
	Stopped       Outcome = 6
	HandlerFailed Outcome = 7
	Abandoned     Outcome = 8 // sync: nobody waited for the answer any more
	Failed        Outcome = 9 // sync: the caller was given an error
)

// Outcomes are the words for how an attempt ended.
var Outcomes = map[Outcome]string{
	Succeeded:     "succeeded",
	Retried:       "retried",
	DeadLettered:  "dead_lettered",
	Cancelled:     "cancelled",
	Expired:       "expired",
	Stopped:       "stopped",
	HandlerFailed: "handler_failed",
	Abandoned:     "abandoned",
	Failed:        "failed",
}

func (o Outcome) String() string { return Outcomes[o] }

// Reasons of a dead letter. The sweep, which is one statement, adds "node_lost".
const (
	ReasonExhausted  = "exhausted"          // out of attempts
	ReasonFatal      = "fatal"              // trying again cannot help
	ReasonPoison     = "poison"             // it ended its engine process too often
	ReasonTargetGone = "target_gone"        // the script was deleted or has no active version
	ReasonPrincipal  = "principal_inactive" // the user for whom it runs is gone or not active

	ReasonUndecodable = "undecodable" // the stored event cannot be read
)

// Reasons of entries that ended without a dead letter.
const (
	ReasonUser    = "user"    // cancelled by somebody
	ReasonExpired = "expired" // it did not start in time
	ReasonPurged  = "purged"  // a script emptied its queue
	ReasonWhen    = "when"    // the expression of its trigger fails
)

// Settlement is what becomes of a running entry after one attempt. It applies only while the entry still belongs to the
// same claim of the same owner; otherwise it has been taken over, or given back, and the settlement is dropped.
type Settlement struct {
	Entry   *Entry
	Outcome Outcome
	Reason  string

	// RetryIn is how long after the settlement a Retried entry is due again.
	RetryIn time.Duration
	// Uncharged gives the attempt of a Retried entry back: nothing was started.
	Uncharged bool
	// EngineLost counts a process that died under the attempt.
	EngineLost bool

	Version  int // of the script that ran; zero: none did
	Status   int // of the answer; zero: none
	Started  time.Time
	Duration time.Duration
	Error    string
	Fault    string // origin

	Cause  string  // of a dead letter: groups those of one error in one version
	Answer *Answer // kept where the entry asks for it

	Logs     []byte // JSON array; nil: none
	Response []byte // kept only for failures
	// KeepInput stores envelope and payload with the record.
	KeepInput bool
	// Unrecorded ends the attempt without a record: nothing depends on it, and the app has enough of them.
	Unrecorded bool
	// Lost leaves the entry to the sweep, whatever else is said here, as if its node had died: the attempt counts.
	Lost bool
}

// strip takes out what the database may refuse the settlement for: first what is only told of an attempt and what it
// answered, then all of it. False: there is nothing left.
func (x *Settlement) strip() bool {
	const refused = "what it said could not be stored"
	if x.Logs == nil && x.Response == nil && !x.KeepInput && x.Answer == nil && (x.Error == "" || x.Error == refused) {
		more := !x.Lost
		x.Lost = true
		return more
	}
	x.Logs, x.Response, x.KeepInput, x.Answer = nil, nil, false, nil
	if x.Error != "" {
		x.Error = refused
	}
	return true
}
