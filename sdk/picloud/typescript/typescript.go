// Package typescript has the declarations of what scripts in TypeScript and JavaScript see, for editors and compilers. They are made
// from the list in sdk/scripttest.
package typescript

import _ "embed"

// Declarations is the text of picloud.d.ts.
//
//go:embed picloud.d.ts
var Declarations string
