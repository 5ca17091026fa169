package coretest

import (
	"slices"
	"strings"
)

// HostileNames are names that somebody may give who wants to be taken for another, to get out of a folder, or to break what reads them:
// each is either refused or means just itself. known is a name that is there; none of them is that name.
func HostileNames(known string) []string {
	names := []string{
		// Paths and files.
		"", ".", "..", "/", "../" + known, "../../../etc/passwd", known + "/..", "./" + known, "/etc/passwd", `..\..\` + known, `C:\` + known, "CON", "nul.txt",
		known + "/", "/" + known, known + "//" + known, "~", "~/" + known, "." + known, known + ".", "..." + known,
		// The same in what is decoded once more than it should be.
		"%2e%2e%2f" + known, "..%2f" + known, "..%c0%af" + known, "%252e%252e", "%" + known, "%zz", "%", known + "%00", known + "?a=b", known + "#a", known + ";a",
		// Zero bytes and others that are not seen.
		"\x00", known + "\x00", known + "\x00.txt", " ", " " + known, known + " ", known + "\t", "\n", known + "\r\nX-Other: 1", "\x1b[2J", "\x7f", "\u0085",
		"\u200b" + known, "\ufeff" + known, "\u00ad" + known, "\u202e" + known, known + "\u202c", "\u2028", "\ufffd", "\U000e0041",
		// Alike.
		strings.ToUpper(known), strings.ToUpper(known[:1]) + known[1:], strings.ToLower(known) + "\u0301", "\u0301", "caf\u00e9", "cafe\u0301", "\u212a", "\u017f", "stra\u00dfe", "STRASSE",
		"\u0131", "\u0130", "\uff21", "\u0430", "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947", "\U0001f600", "\U0001f468\u200d\U0001f469",
		// What means something to those who read it.
		"*", known[:1] + "*", "%_", "_", known[:1] + "%", "'", "';--", `"`, "`", `\`, "$1", "{" + known + "}", "{}", "[0]", "<b>", "&amp;", "a,b", "a=b", "a:b", "a|b", "@",
		"__proto__", "constructor", "null", "true", "0", "-1", "1e999", "NaN", "00000000-0000-0000-0000-000000000000",
		// Long: at bounds that are usual, and beyond.
		strings.Repeat("a", 64), strings.Repeat("a", 129), strings.Repeat("a", 256), strings.Repeat("a", 513), strings.Repeat("\u00e9", 128), strings.Repeat("\U0001f600", 64),
		strings.Repeat("a", 5000), strings.Repeat("../", 1000), strings.Repeat("a/", 300), strings.Repeat(".", 255), strings.Repeat("\u0301", 100),
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == known })
}
