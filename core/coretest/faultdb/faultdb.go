// Package faultdb is a proxy in front of Postgres that makes the network between a node and its database bad on demand:
// slow, silent in one direction, reset, or cut at the worst moment of a commit.
package faultdb

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Fault is what happens to what passes, until another is set.
type Fault struct {
	// Only limits the fault to connections of this application_name. Empty: all.
	Only string
	// Delay comes before every statement.
	Delay time.Duration
	// HoldRequests lets nothing through to the server, HoldAnswers nothing to the client; both is a split. What is held is
	// delivered after the fault, as TCP would.
	HoldRequests, HoldAnswers bool
	// Refuse resets new connections.
	Refuse bool
}

// Stats counts what was done to connections.
type Stats struct {
	Connections   int // that were opened
	Resets        int
	LostAnswers   int // commits whose answer was lost
	LostRequests  int // commits that never reached the server
	CutInMessages int // connections that ended in the middle of a message
}

// Proxy stands before one server. Its methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	network  string // of the server
	address  string
	url      string
	running  sync.WaitGroup

	mu           sync.Mutex
	closed       bool
	links        map[*link]bool
	fault        Fault
	changed      chan struct{} // closed when the fault changes
	rewrite      func(sql string) string
	loseAnswers  int
	loseRequests int
	cutIn        int64 // bytes of answers until a cut; zero: no cut is due
	stats        Stats
}

// New starts a proxy before the server that the URL names.
func New(target string) (*Proxy, error) {
	config, err := pgconn.ParseConfig(target)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &Proxy{listener: listener, links: map[*link]bool{}, changed: make(chan struct{})}
	p.network, p.address = pgconn.NetworkAddress(config.Host, config.Port)
	through := url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: listener.Addr().String(),
		Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}
	p.url = through.String()
	p.running.Go(p.accept)
	return p, nil
}

// URL leads to the server's database through the proxy.
func (p *Proxy) URL() string { return p.url }

// Close ends all connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.cut()
	}
	p.mu.Unlock()
	_ = p.listener.Close()
	p.running.Wait()
}

// Set has a fault begin, in place of the one before.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// Rewrite has every statement that is prepared from now on go through f, which plants a defect in it. The parameters must
// stay as they are.
func (p *Proxy) Rewrite(f func(sql string) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rewrite = f
}

func (p *Proxy) rewriter() func(sql string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rewrite
}

// Heal ends the fault, and forgets cuts that have not happened.
func (p *Proxy) Heal() {
	p.Set(Fault{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loseAnswers, p.loseRequests, p.cutIn = 0, 0, 0
}

// Reset ends all open connections at once and returns how many there were.
func (p *Proxy) Reset() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
	p.stats.Resets += len(p.links)
	return len(p.links)
}

// LoseAnswers has the next n commits happen, and their connections end before the client learns of it.
func (p *Proxy) LoseAnswers(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loseAnswers = n
}

// LoseRequests ends the connections of the next n commits before the server learns of them.
func (p *Proxy) LoseRequests(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loseRequests = n
}

// CutAfter ends the connection that brings the n-th byte from the server, there.
func (p *Proxy) CutAfter(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutIn = n
}

// Stats returns what was done so far.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	refuse := p.closed || p.fault.Refuse
	p.mu.Unlock()
	if refuse {
		reset(client)
		return
	}
	server, err := net.Dial(p.network, p.address)
	if err != nil {
		reset(client)
		return
	}
	l := newLink(p, client, server)
	p.mu.Lock()
	p.links[l] = true
	p.stats.Connections++
	if p.closed {
		l.cut()
	}
	p.mu.Unlock()
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// current returns the fault as it is for a connection of this name, and what is closed when it changes.
func (p *Proxy) current(name string) (Fault, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault.Only != "" && p.fault.Only != name {
		return Fault{}, p.changed
	}
	return p.fault, p.changed
}

// take says whether a commit is to be lost now, and counts it.
func (p *Proxy) take(left, count *int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *left == 0 {
		return false
	}
	*left--
	*count++
	return true
}

// allow returns how many of n bytes from the server may pass before a cut.
func (p *Proxy) allow(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cutIn == 0 {
		return n
	}
	if p.cutIn > int64(n) {
		p.cutIn -= int64(n)
		return n
	}
	n = int(p.cutIn) - 1
	p.cutIn = 0
	p.stats.CutInMessages++
	return n
}

// reset closes a connection without a word of good-bye.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
