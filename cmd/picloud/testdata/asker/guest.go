//go:build wasip1

package main

import "github.com/picloud/picloud/sdk/picloud/guest"

func init() { guest.Register(Handle) }

func main() { guest.Serve(Handle) }
