package api

import (
	"time"

	"github.com/google/uuid"
)

// Quarantine says why a script's version is not run.
type Quarantine struct {
	Version int       `json:"version" example:"3"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until" doc:"Then one run of it is tried"`
	Losses  int       `json:"losses" example:"3" doc:"How many engine processes it has ended"`
	How     string    `json:"how" example:"it exited with status 2: fatal error: stack overflow" doc:"How the last of them ended"`
}

// quarantine is that of a script's active version on this node; nil: it is run.
func (a *api) quarantine(script uuid.UUID) *Quarantine {
	for _, q := range a.Quarantined() {
		if q.Script == script {
			return &Quarantine{Version: q.Version, Since: q.Since.UTC(), Until: q.Until.UTC(), Losses: q.Losses, How: q.How}
		}
	}
	return nil
}
