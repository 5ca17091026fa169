package outbound

import (
	"crypto/tls"
	"net"
)

// Resolve has the client ask a test's name server.
func (c *Client) Resolve(r *net.Resolver) { c.dialer.Resolver = r }

// Trust has the client trust a test's certificates.
func (c *Client) Trust(cfg *tls.Config) { c.carrier.TLSClientConfig = cfg }

// Connects reports whether the guard lets a request for asked connect to an address.
func (c *Client) Connects(asked, network, address string) bool {
	return c.guard.Control(asked)(network, address, nil) == nil
}

// Hold takes room as bodies do.
func (c *Client) Hold(n int64) bool { return c.capacity.take(n) }

// Shares is for how many apps something is kept.
func (c *Client) Shares() int {
	c.capacity.mu.Lock()
	defer c.capacity.mu.Unlock()
	return len(c.capacity.apps)
}

// The limits of a node.
const (
	PerApp    = perApp
	HeldBytes = heldBytes
)
