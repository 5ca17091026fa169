// Package greet is a module.
package greet

import "app/words"

// Hello greets somebody.
func Hello(name string) string { return words.Hello + ", " + name }
