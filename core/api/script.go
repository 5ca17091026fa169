package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/history"
	"github.com/picloud/picloud/core/tenant"
)

// Script is a user's program.
type Script struct {
	ID            string      `json:"id" format:"uuid"`
	Name          string      `json:"name" example:"hello"`
	Kind          string      `json:"kind" enum:"endpoint,module" doc:"An endpoint may be called, as by routes, queues and triggers; a module is imported by other scripts of its engine, as app/ and its name"`
	Engine        string      `json:"engine" example:"yaegi"`
	Description   string      `json:"description"`
	ActiveVersion int         `json:"active_version" example:"3" doc:"The version that runs; 0 if none does"`
	TimeoutMS     int64       `json:"timeout_ms" example:"30000" doc:"A run is stopped after this"`
	MaxAttempts   int         `json:"max_attempts" example:"5" doc:"How often an asynchronous event is tried"`
	Quarantine    *Quarantine `json:"quarantine,omitempty" doc:"Absent where the version runs, and in lists. It is that of the node that answers: others may not have met the version's failure"`
	Policy        Policy      `json:"policy" doc:"How events are delivered that have no policy of a queue or trigger; its limits apply to all runs"`
	Imports       []string    `json:"imports" example:"[\"greet\"]" doc:"The modules that the active version imports itself, by name"`
	ImportedBy    []string    `json:"imported_by" example:"[]" doc:"The scripts whose active version imports this module itself, by name"`
	Limits        Limits      `json:"limits" doc:"What bounds a run; what is absent is as the app says, or else the platform"`
	Transactional bool        `json:"transactional" doc:"Its writes, and what it sends, take effect together at the end of a run that succeeds, or not at all"`
	Grants        []string    `json:"grants" example:"[\"kv\",\"secrets\"]" doc:"The services that its runs may use that act for nobody"`
	CreatedAt     time.Time   `json:"created_at"`
	UpdatedAt     time.Time   `json:"updated_at"`
}

func viewScript(s *tenant.ScriptRecord) Script {
	return Script{
		ID: s.ID.String(), Name: s.Name, Kind: s.Kind, Engine: s.Engine, Description: s.Description,
		ActiveVersion: s.Version, TimeoutMS: s.Timeout.Milliseconds(), MaxAttempts: s.MaxAttempts,
		Policy: viewPolicy(&s.Policy), Limits: viewLimits(&s.Limits), Imports: names(s.Imports), ImportedBy: names(s.ImportedBy),
		Transactional: s.Transactional, Grants: grants(&s.Script), CreatedAt: s.CreatedAt.UTC(), UpdatedAt: s.UpdatedAt.UTC(),
	}
}

func grants(s *tenant.Script) []string {
	if s.Grants == nil {
		return tenant.DefaultGrants()
	}
	return names(s.Grants)
}

// names is a list that is never null.
func names(list []string) []string { return append([]string{}, list...) }

// NewScript is what makes a script, which has no version yet.
type NewScript struct {
	Name        string `json:"name" minLength:"1" maxLength:"63" example:"hello" doc:"Lower-case letters, digits, dashes and underscores; unique in the app"`
	Kind        string `json:"kind,omitempty" enum:"endpoint,module" default:"endpoint" doc:"It never changes"`
	Engine      string `json:"engine,omitempty" maxLength:"63" default:"yaegi" doc:"What runs it; it never changes"`
	Description string `json:"description,omitempty" maxLength:"2000"`
	TimeoutMS   int64  `json:"timeout_ms,omitempty" minimum:"1" maximum:"300000" default:"30000"`
	MaxAttempts int    `json:"max_attempts,omitempty" minimum:"1" maximum:"25" default:"5"`
}

// ScriptChange is what may change in a script. What is absent stays.
type ScriptChange struct {
	Description *string `json:"description,omitempty" maxLength:"2000"`
	TimeoutMS   *int    `json:"timeout_ms,omitempty" minimum:"1" maximum:"300000"`
	MaxAttempts *int    `json:"max_attempts,omitempty" minimum:"1" maximum:"25"`
	Policy      *Policy `json:"policy,omitempty" doc:"Replaces the whole one"`
	Limits      *Limits `json:"limits,omitempty" doc:"Replaces all of them"`

	Transactional *bool     `json:"transactional,omitempty"`
	Grants        *[]string `json:"grants,omitempty" maxItems:"20" doc:"Replaces all of them. Every call of a service looks at them as they are then"`
}

// ScriptUsage is how the runs of a script went.
type ScriptUsage struct {
	Days []ScriptDay `json:"days" doc:"Newest first; a day without a run is absent"`
}

// ScriptDay is how the runs of a script went on one day.
type ScriptDay struct {
	Day        string           `json:"day" format:"date" example:"2026-03-01" doc:"In UTC"`
	Attempts   int64            `json:"attempts" example:"1203"`
	Outcomes   map[string]int64 `json:"outcomes" doc:"Attempts by how they ended, in the words of executions" example:"{\"succeeded\":1200,\"failed\":3}"`
	DurationMS float64          `json:"duration_ms" example:"2406.5" doc:"Of all attempts together"`
}

func viewUsage(runs []history.Runs) (u ScriptUsage) {
	u.Days = []ScriptDay{}
	for _, r := range runs {
		day := r.Day.UTC().Format(time.DateOnly)
		if n := len(u.Days); n == 0 || u.Days[n-1].Day != day {
			u.Days = append(u.Days, ScriptDay{Day: day, Outcomes: map[string]int64{}})
		}
		d := &u.Days[len(u.Days)-1]
		d.Attempts += r.Attempts
		d.Outcomes[r.Outcome.String()] += r.Attempts
		d.DurationMS += float64(r.Time.Microseconds()) / 1000
	}
	return u
}

const (
	scriptsPath = appPath + "/scripts"
	scriptPath  = scriptsPath + "/{script}"
)

func (a *api) registerScripts(doc huma.API) {
	register(a, doc, operation{
		id: "list-scripts", method: http.MethodGet, path: scriptsPath, tag: "scripts", capability: auth.AppRead,
		summary: "List the scripts of an app, by name",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Script]], error) {
		scripts, next, err := a.Scripts.List(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(scripts, next, viewScript), err
	})
	register(a, doc, operation{
		id: "create-script", method: http.MethodPost, path: scriptsPath, tag: "scripts", capability: auth.AppWriteScript,
		summary: "Make a script", text: "It runs once it has an active version.", status: http.StatusCreated,
	}, a.createScript)
	register(a, doc, operation{
		id: "get-script", method: http.MethodGet, path: scriptPath, tag: "scripts", capability: auth.AppRead,
		summary: "Get a script",
	}, func(ctx context.Context, in *ScriptPath) (*body[Script], error) {
		s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
		if err != nil {
			return nil, err
		}
		view := viewScript(&s)
		view.Quarantine = a.quarantine(s.ID)
		return answer(view), nil
	})
	register(a, doc, operation{
		id: "get-script-usage", method: http.MethodGet, path: scriptPath + "/usage", tag: "scripts", capability: auth.AppLogRead,
		summary: "Count a script's runs",
		text:    "All runs count, also those of which no record is kept. What ended within the last few seconds may be missing.",
	}, a.scriptUsage)
	register(a, doc, operation{
		id: "update-script", method: http.MethodPatch, path: scriptPath, tag: "scripts", capability: auth.AppWriteScript,
		summary: "Change a script", text: "A change of its limits is a release.",
	}, a.updateScript)
	register(a, doc, operation{
		id: "delete-script", method: http.MethodDelete, path: scriptPath, tag: "scripts", capability: auth.AppWriteScript,
		summary: "Delete a script with its versions and routes",
		text:    "This is a release. Older releases that run the script cannot be activated again. A module that is imported stays.",
	}, func(ctx context.Context, in *ScriptPath) (*struct{}, error) {
		s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
		if err != nil {
			return nil, err
		}
		if err := a.Scripts.Delete(ctx, by(ctx), app(ctx), s.ID); err != nil {
			return nil, err
		}
		a.Changed()
		return nil, nil
	})
}

func (a *api) scriptUsage(ctx context.Context, in *ScriptPath) (*body[ScriptUsage], error) {
	s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
	if err != nil {
		return nil, err
	}
	runs, err := a.Usage.Runs(ctx, app(ctx), s.ID)
	if err != nil {
		return nil, err
	}
	return answer(viewUsage(runs)), nil
}

func (a *api) createScript(ctx context.Context, in *struct {
	AppPath
	Body NewScript
},
) (*body[Script], error) {
	if err := tenant.CheckName(in.Body.Name); err != nil {
		return nil, wrong("body.name", err.Error())
	}
	engineName, err := a.engineOf(in.Body.Engine, "")
	if err != nil {
		return nil, err
	}
	s, err := a.Scripts.Create(ctx, by(ctx), tenant.ScriptRecord{
		Script: tenant.Script{
			App: app(ctx), Name: in.Body.Name, Kind: in.Body.Kind, Engine: engineName,
			Timeout: time.Duration(in.Body.TimeoutMS) * time.Millisecond, MaxAttempts: in.Body.MaxAttempts,
		},
		Description: in.Body.Description,
	})
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewScript(&s)), nil
}

func (a *api) updateScript(ctx context.Context, in *struct {
	ScriptPath
	Body ScriptChange
},
) (*body[Script], error) {
	s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
	if err != nil {
		return nil, err
	}
	var policy *tenant.Policy
	if in.Body.Policy != nil {
		if policy, err = in.Body.Policy.record("body.policy.", true); err != nil {
			return nil, err
		}
	}
	if in.Body.Grants != nil {
		if err := tenant.CheckGrants(*in.Body.Grants); err != nil {
			return nil, wrong("body.grants", err.(*tenant.Invalid).Message)
		}
	}
	limits, err := a.scriptLimits(ctx, in.Body.Limits)
	if err != nil {
		return nil, err
	}
	s, err = a.Scripts.Update(ctx, by(ctx), app(ctx), s.ID, tenant.ScriptUpdate{
		TimeoutMS: in.Body.TimeoutMS, MaxAttempts: in.Body.MaxAttempts, Description: in.Body.Description, Policy: policy,
		Limits: limits, Transactional: in.Body.Transactional, Grants: in.Body.Grants,
	})
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewScript(&s)), nil
}
