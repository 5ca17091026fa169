// Package plugin is what every kind of plugin has in common: how a process proves that it is one of ours, and how both
// sides batch messages on a stream and give one another credit.
package plugin

import (
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
)

// ErrProtocol says that a plugin broke the contract of its kind: its session is of no use any more.
var ErrProtocol = errors.New("the plugin broke the protocol")

// Handshake keeps a plugin from being run by hand, and the host from running something that is no plugin. It is no
// security: the host trusts what it launches.
var Handshake = goplugin.HandshakeConfig{
	MagicCookieKey:   "PICLOUD_PLUGIN",
	MagicCookieValue: "8f0c2f5b4e6d4c8f9d9d5f7f3b1a6c2e",
}
