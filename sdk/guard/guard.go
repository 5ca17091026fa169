// Package guard decides which addresses code that nobody trusts may have connections made to: public ones, and what the node's owner
// allows. Whoever dials for such code asks it about the address that is connected to, after names were resolved.
package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// Allowed is one thing that may be reached although it is inside, or at another port: a host at a port, or all ports of
// the addresses of a prefix.
type Allowed struct {
	host   string // in lower case; empty: see address or prefix
	port   uint16
	addr   netip.Addr
	prefix netip.Prefix
}

// ParseAllowed reads a list that is separated by commas: host:port, or a prefix such as 10.1.0.0/16. A host by name is
// trusted at whatever address it has. It may be empty.
func ParseAllowed(list string) ([]Allowed, error) {
	var out []Allowed
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		a, err := parseAllowed(item)
		if err != nil {
			return nil, fmt.Errorf("%q is neither host:port, such as localhost:9000, nor a prefix, such as 10.1.0.0/16", item)
		}
		out = append(out, a)
	}
	return out, nil
}

func parseAllowed(item string) (Allowed, error) {
	if strings.Contains(item, "/") {
		p, err := netip.ParsePrefix(item)
		return Allowed{prefix: p.Masked()}, err
	}
	host, port, err := net.SplitHostPort(item)
	if err != nil {
		return Allowed{}, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return Allowed{}, errRefused
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return Allowed{addr: addr.Unmap(), port: uint16(n)}, nil
	}
	return Allowed{host: strings.ToLower(strings.TrimSuffix(host, ".")), port: uint16(n)}, nil
}

// alsoDenied are inside although they look public: what clouds answer to their machines at a public address, with
// credentials of theirs.
var alsoDenied = []netip.Prefix{
	netip.MustParsePrefix("168.63.129.16/32"), // Azure
}

// errRefused says no more, and whoever asked should say less: that an address is inside is nobody's to know.
var errRefused = errors.New("refused")

// Config says what may be reached beyond public addresses at the ports 80 and 443.
type Config struct {
	Allow []Allowed
	// Own are the addresses that the node listens on, as host:port. They are never reached, whatever Allow says.
	Own []string
	// Ports of public addresses, in place of 80 and 443.
	Ports []uint16
}

// Guard says which addresses are connected to. Its methods are safe for concurrent use.
type Guard struct {
	public *ssrf.Guardian
	allow  []Allowed
	own    []netip.AddrPort // an unspecified address stands for all that this machine has
}

// New makes a guard.
func New(cfg Config) *Guard {
	options := []ssrf.Option{ssrf.WithDeniedV4Prefixes(alsoDenied...)}
	if len(cfg.Ports) > 0 {
		options = append(options, ssrf.WithPorts(cfg.Ports...))
	}
	g := &Guard{public: ssrf.New(options...), allow: cfg.Allow}
	for _, address := range cfg.Own {
		if own, err := netip.ParseAddrPort(address); err == nil {
			g.own = append(g.own, netip.AddrPortFrom(own.Addr().Unmap(), own.Port()))
		}
	}
	return g
}

// Control returns what a dialer asks before it connects to an address of asked, which is host:port as the request has it.
func (g *Guard) Control(asked string) func(network, address string, _ syscall.RawConn) error {
	named := g.named(asked)
	return func(network, address string, raw syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || network != "tcp4" && network != "tcp6" || to.Addr().Zone() != "" {
			return errRefused
		}
		to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
		switch {
		case g.isOwn(to):
			return errRefused
		case named || g.listed(to):
			return nil
		}
		return g.public.SafeAddrPort(to)
	}
}

// named reports whether host:port is allowed by that name.
func (g *Guard) named(asked string) bool {
	host, port, err := net.SplitHostPort(asked)
	if err != nil {
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc(g.allow, func(a Allowed) bool {
		return a.host != "" && a.host == host && strconv.Itoa(int(a.port)) == port
	})
}

// listed reports whether an address is allowed, itself or by its prefix.
func (g *Guard) listed(to netip.AddrPort) bool {
	return slices.ContainsFunc(g.allow, func(a Allowed) bool {
		return a.addr.IsValid() && a.addr == to.Addr() && a.port == to.Port() || a.prefix.IsValid() && a.prefix.Contains(to.Addr())
	})
}

// isOwn reports whether the node itself listens at an address.
func (g *Guard) isOwn(to netip.AddrPort) bool {
	for _, own := range g.own {
		switch {
		case own.Port() != to.Port():
		case own.Addr() == to.Addr():
			return true
		case own.Addr().IsUnspecified() && isLocal(to.Addr()):
			return true
		}
	}
	return false
}

// isLocal reports whether this machine has an address. It is asked anew each time, since addresses come and go.
func isLocal(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return true // nobody knows, so it may be
	}
	return slices.ContainsFunc(all, func(x net.Addr) bool {
		p, err := netip.ParsePrefix(x.String())
		return err == nil && p.Addr().Unmap() == a
	})
}
