package tenant

import (
	"slices"
	"strings"

	"github.com/picloud/picloud/sdk/event"
)

// Match is what a request's method and path lead to. Route is nil where nothing answers it; Allow then names the
// methods that the path does have, sorted, and is empty where it has none.
type Match struct {
	Route  *Route
	Script *Script
	Params []event.Param
	Rest   string // what {rest...} matched, without a leading slash
	Allow  []string
}

// node is one position in the tree of an app's patterns for one host: all patterns that begin alike share their nodes.
type node struct {
	literals map[string]*node
	param    *node
	ends     []target // patterns that end here
	rest     []target // patterns that end in {rest...} after this
}

// target is one route with what Match needs of it.
type target struct {
	method string
	names  []string
	route  *Route
	script *Script
}

func (n *node) add(p Pattern, t target) {
	for _, s := range p.segments {
		switch s.kind {
		case segmentLiteral:
			next := n.literals[s.text]
			if next == nil {
				if n.literals == nil {
					n.literals = make(map[string]*node)
				}
				next = &node{}
				n.literals[s.text] = next
			}
			n = next
		case segmentParam:
			if n.param == nil {
				n.param = &node{}
			}
			n = n.param
		case segmentRest:
			n.rest = append(n.rest, t)
			return
		}
	}
	n.ends = append(n.ends, t)
}

// walk is one request on its way through the trees.
type walk struct {
	method string
	values [maxParams]string
	count  int
	found  *target
	rest   string
	allow  []string
}

// down follows path, which has no leading slash, below n: literal before parameter before rest, and back up where a
// branch has no answer for the method either. It visits each node at most once, so a request costs at most the tree.
func (w *walk) down(n *node, path string) bool {
	part, tail, more := strings.Cut(path, "/")
	if next := n.literals[part]; next != nil && w.into(next, tail, more) {
		return true
	}
	if part == "" {
		return false
	}
	if n.param != nil && w.count < maxParams {
		w.values[w.count] = part
		w.count++
		if w.into(n.param, tail, more) {
			return true
		}
		w.count--
	}
	if len(n.rest) > 0 && w.pick(n.rest) {
		w.rest = path
		return true
	}
	return false
}

func (w *walk) into(n *node, tail string, more bool) bool {
	if more {
		return w.down(n, tail)
	}
	return w.pick(n.ends)
}

// pick chooses among routes of one shape: the method itself, GET for HEAD, then ANY.
func (w *walk) pick(targets []target) bool {
	var get, catchAll *target
	for i := range targets {
		t := &targets[i]
		switch t.method {
		case w.method:
			w.found = t
			return true
		case "GET":
			get = t
		case MethodAny:
			catchAll = t
		}
	}
	switch {
	case get != nil && w.method == "HEAD":
		w.found = get
	case catchAll != nil:
		w.found = catchAll
	default:
		for i := range targets {
			w.allow = append(w.allow, targets[i].method)
			if targets[i].method == "GET" {
				w.allow = append(w.allow, "HEAD")
			}
		}
		return false
	}
	return true
}

func (w *walk) result() Match {
	if w.found == nil {
		slices.Sort(w.allow)
		return Match{Allow: slices.Compact(w.allow)}
	}
	m := Match{Route: w.found.route, Script: w.found.script, Rest: w.rest}
	if w.count > 0 {
		m.Params = make([]event.Param, w.count)
		for i := range m.Params {
			m.Params[i] = event.Param{Name: w.found.names[i], Value: w.values[i]}
		}
	}
	return m
}
