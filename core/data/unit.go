package data

import (
	"errors"
	"time"

	"github.com/picloud/picloud/core/outbox"
)

// Limits of what one run stages.
const (
	MaxStaged      = 1000    // rows that are read, and things that are written or sent, each
	MaxStagedBytes = 4 << 20 // of what is written and sent

	MaxReplacedBytes = 32 << 20 // of what was there before, where triggers are shown it
)

// Row names a value or a document in the app of a unit.
type Row struct {
	Kind       outbox.Kind // KindKV or KindDocs
	Collection string
	Key        string // of a document: its id
}

// Staged is what a row is to hold.
type Staged struct {
	Row
	Value []byte // JSON; nil: nothing
	// How long a value lives: TTL from the commit on, or until ExpiresAt; neither: for ever.
	TTL       time.Duration
	ExpiresAt time.Time
}

// Unit is what a run has read and wants to have done, all of it or nothing.
type Unit struct {
	Reads  map[Row]int64 // versions; 0: there was none
	Writes []Staged      // one a row
	// Sends are entries to be written, in groups that are written or known from before as a whole.
	Sends [][]*outbox.Entry
}

// ErrUnitConflict says that something that a unit has read has changed since, or that units were in each other's way. Nothing was done.
var ErrUnitConflict = errors.New("what the run has read has changed since")
