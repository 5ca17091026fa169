// Package planted holds switches for defects that are there on purpose, to see that the tests find them. They exist only
// in programs built with the tag planted: in every other, Is is known to be false when it is compiled, and nothing of a
// defect is left.
//
// Defects of SQL need no switch: the torture plants them on the way to the database.
package planted

// The defects.
const (
	ReplyKept = "reply map not cleared"
	NoJitter  = "retry without jitter"
	Unchecked = "reads of a unit unchecked"
)

// Env names the defect of a process that was built with the tag.
const Env = "PICLOUD_PLANTED"
