package auth

import (
	"slices"

	"github.com/google/uuid"
)

// Capability is one thing that a request may do. Each operation of the control API names the one it needs.
type Capability string

// The capabilities: those of an app, then those of the instance.
const (
	AppRead             Capability = "app:read"
	AppWriteScript      Capability = "app:write_script"
	AppWriteRoute       Capability = "app:write_route"
	AppManageDomains    Capability = "app:manage_domains"
	AppAdmin            Capability = "app:admin"
	AppLogRead          Capability = "app:read_logs"
	AppInvoke           Capability = "app:invoke"
	AppDeadLetterManage Capability = "app:manage_dead_letters"

	InstanceRead        Capability = "instance:read" // who am I, which apps may I see
	InstanceCreateApp   Capability = "instance:create_app"
	InstanceManageUsers Capability = "instance:manage_users"
	InstanceManageKeys  Capability = "instance:manage_keys"
)

// Scope is what a key may be narrowed to. Scopes are coarser than capabilities and never grow finer: a new capability
// joins one of them.
type Scope string

// The scopes.
const (
	ScopeScriptRead    Scope = "script:read"
	ScopeScriptWrite   Scope = "script:write"
	ScopeRouteWrite    Scope = "route:write"
	ScopeDomainManage  Scope = "domain:manage"
	ScopeLogRead       Scope = "log:read"
	ScopeAppAdmin      Scope = "app:admin"
	ScopeInstanceAdmin Scope = "instance:admin"
)

// Scopes are all scopes: what a key without narrowing carries.
var Scopes = []Scope{
	ScopeScriptRead, ScopeScriptWrite, ScopeRouteWrite, ScopeDomainManage, ScopeLogRead, ScopeAppAdmin, ScopeInstanceAdmin,
}

// Role is what a user is on the whole instance.
type Role string

// The roles.
const (
	RoleOwner  Role = "owner"  // everything
	RoleAdmin  Role = "admin"  // may write in every app, but administers neither apps nor users
	RoleMember Role = "member" // nothing by itself
)

type rule struct {
	scope    Scope // empty: any key
	admin    bool  // held by RoleAdmin
	instance bool  // not of an app, so a key bound to one never has it
}

var rules = map[Capability]rule{
	AppRead:             {scope: ScopeScriptRead, admin: true},
	AppWriteScript:      {scope: ScopeScriptWrite, admin: true},
	AppWriteRoute:       {scope: ScopeRouteWrite, admin: true},
	AppManageDomains:    {scope: ScopeDomainManage},
	AppAdmin:            {scope: ScopeAppAdmin},
	AppLogRead:          {scope: ScopeLogRead, admin: true},
	AppInvoke:           {scope: ScopeScriptWrite, admin: true},
	AppDeadLetterManage: {scope: ScopeAppAdmin},
	InstanceRead:        {},
	InstanceCreateApp:   {scope: ScopeInstanceAdmin, admin: true, instance: true},
	InstanceManageUsers: {scope: ScopeInstanceAdmin, instance: true},
	InstanceManageKeys:  {scope: ScopeInstanceAdmin, instance: true},
}

// Known reports whether c is a capability.
func (c Capability) Known() bool { _, ok := rules[c]; return ok }

// Principal is who a request acts as. It never changes.
type Principal struct {
	User   uuid.UUID
	Name   string
	Role   Role
	App    uuid.UUID // the only app that the key may touch; nil: all that the user may
	Scopes []Scope
}

// Can reports whether p may do c: its role grants it, its key's scope covers it, and an instance-wide capability is not
// asked of a key that is bound to one app. Whether p sees the app at all is Sees.
func (p *Principal) Can(c Capability) bool {
	r, ok := rules[c]
	if !ok {
		return false
	}
	granted := p.Role == RoleOwner || p.Role == RoleAdmin && r.admin || r.scope == ""
	scoped := r.scope == "" || slices.Contains(p.Scopes, r.scope)
	return granted && scoped && (!r.instance || p.App == uuid.Nil)
}

// Sees reports whether app exists as far as p may know.
func (p *Principal) Sees(app uuid.UUID) bool {
	return (p.App == uuid.Nil || p.App == app) && p.Role != RoleMember
}
