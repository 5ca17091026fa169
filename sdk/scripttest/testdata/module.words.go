// Package words is a module that another one imports.
package words

// Hello is a greeting.
const Hello = "hello"
