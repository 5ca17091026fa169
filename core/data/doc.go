package data

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// MaxDocIndexes is how many indexes a collection of documents may have: each is one more row to write with every document.
const MaxDocIndexes = 16

// ErrDocExists says that there is a document of that id already.
var ErrDocExists = errors.New("there is a document of this id already")

// DocPlace names a document.
type DocPlace struct {
	App        uuid.UUID
	Collection string
	ID         uuid.UUID
}

// Doc is a document and what is known of it. Its versions are never used twice within an app.
type Doc struct {
	ID        uuid.UUID
	Data      []byte // a JSON object
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Unserved says that a find would look at more documents than it may, and what would help.
type Unserved struct {
	Scanned    int // how many it may look at
	Collection string
	Path, Type string // of the index that is missing; empty: no index would help
}

func (u *Unserved) Error() string {
	if u.Path == "" {
		return fmt.Sprintf("the find has looked at %d documents without an end: narrow its filter by a path with an index", u.Scanned)
	}
	return fmt.Sprintf("the find has looked at %d documents without an end: it needs docs.index(%q, %q, %q)",
		u.Scanned, u.Collection, u.Path, u.Type)
}
