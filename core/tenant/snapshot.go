package tenant

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Snapshot is the configuration of all apps at one version, arranged for look-ups. It never changes, so any number of
// goroutines may read it, and what it returns must not be written to.
type Snapshot struct {
	Version int64

	apps     map[uuid.UUID]*App
	scripts  map[uuid.UUID]*Script
	sinks    map[uuid.UUID]*Sink
	routes   map[uuid.UUID]*Route
	lanes    map[uuid.UUID]*Lane
	http     map[uuid.UUID]*Trigger // by route
	triggers map[triggerKey][]*Trigger
	hosts    hostTable[*App]
	matchers map[uuid.UUID]*hostTable[*node]
	busy     int // apps that have scripts
}

// triggerKey is what triggers are looked up by.
type triggerKey struct {
	app  uuid.UUID
	kind string
}

// NewSnapshot arranges apps, which it keeps. A route whose pattern does not parse or whose script is not the app's is
// left out: it could not have been stored by this version.
func NewSnapshot(version int64, apps []*App) *Snapshot {
	s := &Snapshot{
		Version:  version,
		apps:     make(map[uuid.UUID]*App, len(apps)),
		scripts:  make(map[uuid.UUID]*Script),
		sinks:    make(map[uuid.UUID]*Sink),
		routes:   make(map[uuid.UUID]*Route),
		lanes:    make(map[uuid.UUID]*Lane),
		http:     make(map[uuid.UUID]*Trigger),
		triggers: make(map[triggerKey][]*Trigger),
		matchers: make(map[uuid.UUID]*hostTable[*node], len(apps)),
	}
	for _, app := range apps {
		s.apps[app.ID] = app
		for _, host := range app.Domains {
			s.hosts.set(host, app)
		}
		for i := range app.Scripts {
			s.scripts[app.Scripts[i].ID] = &app.Scripts[i]
		}
		for i := range app.Sinks {
			s.sinks[app.Sinks[i].ID] = &app.Sinks[i]
		}
		s.matchers[app.ID] = s.newMatcher(app)
		s.addLanes(app)
		if len(app.Scripts) > 0 {
			s.busy++
		}
	}
	return s
}

// addLanes arranges what may own entries of app.
func (s *Snapshot) addLanes(app *App) {
	paused := func(ids ...uuid.UUID) bool {
		return slices.ContainsFunc(ids, func(id uuid.UUID) bool { return slices.Contains(app.Paused, id) })
	}
	add := func(id, target uuid.UUID, name string, p Policy) {
		lane := &Lane{ID: id, App: app.ID, Name: name, Policy: p, Paused: paused(uuid.Nil, id, target), Weight: app.Weight}
		if script := s.scripts[target]; script != nil && script.App == app.ID {
			lane.Script = script
			s.lanes[id] = lane
		} else if sink := s.sinks[target]; sink != nil && sink.App == app.ID {
			lane.Sink = sink
			s.lanes[id] = lane
		}
	}
	mail := emailLane(app)
	mail.Paused = paused(uuid.Nil)
	s.lanes[mail.ID] = mail
	for i := range app.Scripts {
		script := &app.Scripts[i]
		add(script.ID, script.ID, "script "+script.Name, script.Policy)
	}
	for _, x := range app.Sinks {
		add(x.ID, x.ID, "sink "+x.Name, x.Policy)
	}
	for _, q := range app.Queues {
		add(q.ID, q.Script, "queue "+q.Name, q.Policy)
	}
	for _, t := range app.Triggers {
		target := t.Script
		if t.Sink != uuid.Nil {
			target = t.Sink
		}
		add(t.ID, target, "trigger "+t.Name, t.Policy)
		t.Lane = s.lanes[t.ID]
		if !t.Enabled {
			continue
		}
		if t.Kind == TriggerHTTP {
			s.http[t.Route] = &t
		}
		if t.Lane != nil {
			key := triggerKey{app.ID, t.Kind}
			s.triggers[key] = append(s.triggers[key], &t)
		}
	}
}

// Slug returns what an app is called in addresses, or nothing.
func (s *Snapshot) Slug(app uuid.UUID) string {
	if a := s.apps[app]; a != nil {
		return a.Slug
	}
	return ""
}

// Alone reports whether one app at most has scripts.
func (s *Snapshot) Alone() bool { return s.busy <= 1 }

// Lane returns what owns entries under this id, or nil.
func (s *Snapshot) Lane(id uuid.UUID) *Lane { return s.lanes[id] }

// HTTPTrigger returns the trigger that a route's requests go through when nobody waits for them, or nil.
func (s *Snapshot) HTTPTrigger(route uuid.UUID) *Trigger { return s.http[route] }

// Triggers returns the triggers of a kind in app that are enabled and whose script or sink is there, or nil.
func (s *Snapshot) Triggers(app uuid.UUID, kind string) []*Trigger {
	return s.triggers[triggerKey{app, kind}]
}

// Queue returns a queue of app by its name, or nil.
func (s *Snapshot) Queue(app uuid.UUID, name string) *Queue {
	a := s.apps[app]
	if a == nil {
		return nil
	}
	i := slices.IndexFunc(a.Queues, func(q Queue) bool { return q.Name == name })
	if i < 0 {
		return nil
	}
	return &a.Queues[i]
}

// ScriptNamed returns a script of app by its name, or nil.
func (s *Snapshot) ScriptNamed(app uuid.UUID, name string) *Script {
	a := s.apps[app]
	if a == nil {
		return nil
	}
	i := slices.IndexFunc(a.Scripts, func(x Script) bool { return x.Name == name })
	if i < 0 {
		return nil
	}
	return &a.Scripts[i]
}

func (s *Snapshot) newMatcher(app *App) *hostTable[*node] {
	matcher := &hostTable[*node]{}
	for i := range app.Routes {
		route := &app.Routes[i]
		script := s.scripts[route.Script]
		pattern, err := ParsePattern(route.Pattern)
		if err != nil || script == nil || script.App != app.ID {
			continue
		}
		s.routes[route.ID] = route
		host := route.Host
		if host == "" {
			host = "*"
		}
		root := matcher.exactly(host)
		if root == nil {
			root = &node{}
			matcher.set(host, root)
		}
		root.add(pattern, target{method: route.Method, names: pattern.names(), route: route, script: script})
	}
	return matcher
}

// App returns an app by its id, or nil.
func (s *Snapshot) App(id uuid.UUID) *App { return s.apps[id] }

// Apps iterates over all apps, in no order.
func (s *Snapshot) Apps() iter.Seq[*App] { return maps.Values(s.apps) }

// Script returns a script of any app, or nil.
func (s *Snapshot) Script(id uuid.UUID) *Script { return s.scripts[id] }

// Sink returns a sink of any app, or nil.
func (s *Snapshot) Sink(id uuid.UUID) *Sink { return s.sinks[id] }

// SinkOf returns the sink of an id if app may use it: it is its own, or EmailSink. Else it is nil.
func (s *Snapshot) SinkOf(app, id uuid.UUID) *Sink {
	if id == EmailSink {
		if lane := s.lanes[EmailLane(app)]; lane != nil {
			return lane.Sink
		}
		return nil
	}
	if sink := s.sinks[id]; sink != nil && sink.App == app {
		return sink
	}
	return nil
}

// SinkNamed returns a sink of app by its name, or nil.
func (s *Snapshot) SinkNamed(app uuid.UUID, name string) *Sink {
	a := s.apps[app]
	if a == nil {
		return nil
	}
	i := slices.IndexFunc(a.Sinks, func(x Sink) bool { return x.Name == name })
	if i < 0 {
		return nil
	}
	return &a.Sinks[i]
}

// Route returns a route of any app, or nil.
func (s *Snapshot) Route(id uuid.UUID) *Route { return s.routes[id] }

// AppForHost returns the app that claims the host of a request, in any case, with or without a port; or nil. A literal
// claim wins over the longest "*.suffix", and that over "*".
func (s *Snapshot) AppForHost(host string) *App {
	var found *App
	s.hosts.walk(NormalizeHost(host), func(app *App) bool {
		found = app
		return false
	})
	return found
}

// Match finds the route of app for a request. path is decoded; a method is compared as it is. Routes for the host
// itself come first, then those for the longest suffix, then those for every host; where one group has no answer the
// next is asked.
func (s *Snapshot) Match(app *App, host, method, path string) Match {
	matcher := s.matchers[app.ID]
	if matcher == nil || path == "" || path[0] != '/' || reserved(path) {
		return Match{}
	}
	w := walk{method: method}
	matcher.walk(NormalizeHost(host), func(root *node) bool { return !w.down(root, path[1:]) })
	return w.result()
}

// hostTable maps hosts, suffixes and the catch-all to T.
type hostTable[T comparable] struct {
	literals map[string]T
	suffixes map[string]T // ".example.com" stands for "*.example.com"
	every    T
}

func (h *hostTable[T]) set(host string, v T) {
	if host == "*" {
		h.every = v
		return
	}
	if h.literals == nil {
		h.literals, h.suffixes = make(map[string]T), make(map[string]T)
	}
	if suffix, ok := strings.CutPrefix(host, "*"); ok {
		h.suffixes[suffix] = v
		return
	}
	h.literals[host] = v
}

func (h *hostTable[T]) exactly(host string) T {
	if host == "*" {
		return h.every
	}
	if suffix, ok := strings.CutPrefix(host, "*"); ok {
		return h.suffixes[suffix]
	}
	return h.literals[host]
}

// walk calls yield with what a normalised host has, most specific first, until yield returns false.
func (h *hostTable[T]) walk(host string, yield func(T) bool) {
	var none T
	if v := h.literals[host]; v != none && !yield(v) {
		return
	}
	if len(h.suffixes) > 0 {
		for i := 1; i < len(host); i++ {
			if host[i] == '.' {
				if v := h.suffixes[host[i:]]; v != none && !yield(v) {
					return
				}
			}
		}
	}
	if h.every != none {
		yield(h.every)
	}
}
