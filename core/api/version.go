package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/tenant"
)

// Version is one state of a script's source. It never changes.
type Version struct {
	Number     int       `json:"number" example:"3"`
	Hash       string    `json:"hash" doc:"SHA-256 over files, SDK version and limits; the modules that it imports are not in it"`
	SDKVersion string    `json:"sdk_version" example:"1.0"`
	Imports    []string  `json:"imports" example:"[\"greet\"]" doc:"The modules that it imports itself, by name"`
	Note       string    `json:"note"`
	CreatedBy  string    `json:"created_by,omitempty" format:"uuid"`
	CreatedAt  time.Time `json:"created_at"`
}

// VersionWithFiles is a version with its source.
type VersionWithFiles struct {
	Version
	Files []SourceFile `json:"files" doc:"The first is the entry point"`
}

func viewVersion(v *tenant.Version) Version {
	return Version{
		Number: v.Number, Hash: v.Hash, SDKVersion: v.SDKVersion, Imports: names(v.Imports), Note: v.Note, CreatedBy: optional(v.CreatedBy),
		CreatedAt: v.CreatedAt.UTC(),
	}
}

// NewVersion is what makes a version.
type NewVersion struct {
	Files    []SourceFile `json:"files" minItems:"1" maxItems:"100" doc:"The first is the entry point"`
	Note     string       `json:"note,omitempty" maxLength:"2000" doc:"Why there is a new version"`
	Activate *bool        `json:"activate,omitempty" doc:"Whether it runs from now on; true if absent"`
}

// VersionPath is in the input of every operation of a version.
type VersionPath struct {
	ScriptPath
	Number int `path:"number" minimum:"1" maximum:"2147483647" doc:"The version" example:"3"`
}

const (
	versionsPath = scriptPath + "/versions"
	versionPath  = versionsPath + "/{number}"
)

func (a *api) registerVersions(doc huma.API) {
	register(a, doc, operation{
		id: "list-versions", method: http.MethodGet, path: versionsPath, tag: "scripts", capability: auth.AppRead,
		summary: "List the versions of a script, newest first",
	}, func(ctx context.Context, in *struct {
		ScriptPath
		PageQuery
	},
	) (*body[Page[Version]], error) {
		s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
		if err != nil {
			return nil, err
		}
		versions, next, err := a.Versions.List(ctx, app(ctx), s.ID, in.Cursor, in.Limit)
		return listed(versions, next, viewVersion), err
	})
	register(a, doc, operation{
		id: "create-version", method: http.MethodPost, path: versionsPath, tag: "scripts", capability: auth.AppWriteScript,
		summary: "Upload a new version of a script", text: "Source that does not compile is refused, with line and column; so is that of a module with which a script that imports it does not.",
		status: http.StatusCreated, maxBody: maxSourceBody,
	}, a.createVersion)
	register(a, doc, operation{
		id: "get-version-source", method: http.MethodGet, path: versionPath, tag: "scripts", capability: auth.AppRead,
		summary: "Get a version with its source",
	}, func(ctx context.Context, in *VersionPath) (*body[VersionWithFiles], error) {
		s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
		if err != nil {
			return nil, err
		}
		v, err := a.Versions.Get(ctx, app(ctx), s.ID, in.Number)
		return answer(VersionWithFiles{viewVersion(&v), viewFiles(v.Files)}), err
	})
	register(a, doc, operation{
		id: "activate-version", method: http.MethodPost, path: versionPath + "/activate", tag: "scripts",
		capability: auth.AppWriteScript, summary: "Make a version the one that runs",
		text: "Also an older one. This is a release. One that imports modules, or is imported, is compiled with what is active now.",
	}, func(ctx context.Context, in *VersionPath) (*body[Script], error) {
		s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
		if err != nil {
			return nil, err
		}
		v, err := a.Versions.Get(ctx, app(ctx), s.ID, in.Number)
		if err != nil {
			return nil, err
		}
		save := saving{script: s.Name, engine: s.Engine, version: v, stored: true, activate: true}
		err = a.save(ctx, &save, func() error {
			return a.Versions.Activate(ctx, by(ctx), app(ctx), s.ID, in.Number, save.compiled)
		})
		if err != nil {
			return nil, err
		}
		a.Changed()
		s, err = a.Scripts.Get(ctx, app(ctx), s.ID.String())
		return answer(viewScript(&s)), err
	})
}

func (a *api) createVersion(ctx context.Context, in *struct {
	ScriptPath
	Body NewVersion
},
) (*body[Version], error) {
	s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
	if err != nil {
		return nil, err
	}
	save := saving{script: s.Name, engine: s.Engine, activate: in.Body.Activate == nil || *in.Body.Activate}
	if save.version, err = newVersion(in.Body.Files); err != nil {
		return nil, err
	}
	save.version.Script, save.version.Note, save.version.CreatedBy = s.ID, in.Body.Note, by(ctx)
	var v tenant.Version
	err = a.save(ctx, &save, func() (err error) {
		v, err = a.Versions.Create(ctx, app(ctx), save.version, save.activate, save.compiled)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewVersion(&v)), nil
}
