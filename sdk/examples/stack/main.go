// Stack is an engine for a small language, as an example of a plugin that is not part of PiCloud.
//
// # The language
//
// A program is words, separated by white space, that are run one after another. A number or a "text", with the escapes of JSON,
// puts itself on the stack; other words take what they need from there and leave what they make. In this reference
// ( a b -- c ) says that a word takes b from the top and a from under it, and leaves c. Such a ( comment ) may stand in
// programs, too, and \ begins one that goes to the end of the line.
//
// When the program has ended, what is left on the stack is the answer: nothing, or one value.
//
// Values are null, true, false, numbers, texts, bytes, lists and maps. They never change: words make new ones.
//
//	[ 1 "two" ]                        a list of what the words between leave
//	{ "a" 1 "b" 2 }                    a map, of names and values
//	: double ( n -- n ) 2 * ;          defines a word, to be used further down, and in itself
//	-> x                               takes a value and names it, within a definition or the program; x puts it back
//	cond if … else … then              else may be missing
//	begin … again                      runs for ever
//	begin … until                      until the words leave true
//	begin … while … repeat             while the words before while leave true
//	list each … next                   with each value on the stack; a map has its names, a number counts from 0
//	try word                           runs a word, and puts null on top; or, where it fails, leaves the stack as it was, with a map
//	                                   of code (of the platform, else empty), message and retry_after in seconds
//	import app/name                    has the definitions of a module
//	import ./name.stack                has those of another file of the script
//
// Words for every purpose:
//
//	dup ( a -- a a )   drop ( a -- )   swap ( a b -- b a )   over ( a b -- a b a )
//	+ - * / mod ( a b -- c )           + joins texts and lists, too
//	= <> < > <= >= ( a b -- bool )     numbers, texts, and lists by their values
//	and or ( a b -- bool )   not ( a -- bool )
//	default ( a b -- c )               a, or b if that is null
//	length ( a -- n )                  of a text in bytes, of bytes, a list or a map
//	get ( list n -- a ) ( map name -- a )       from 0; null where a map has no such name
//	set ( map name a -- map )   append ( list a -- list )
//	slice ( a from to -- a )           of a text, bytes or a list; without what is at to
//	sort ( list -- list )   reverse ( list -- list )
//	text ( a -- text )                 bytes as UTF-8, other values as JSON
//	bytes ( a -- bytes )               of a text, or a list of numbers
//	number ( text -- n )   json ( text -- a )
//	split ( text by -- list )   join ( list by -- text )   copies ( text n -- text )   starts ( text with -- bool )
//
// Words for what a script sees:
//
//	execution-id attempt sdk-version ( -- a )
//	event ( -- map )                   id, source, type, subject, time, content_type
//	method host path rest ( -- text )   params headers query ( -- map )
//	param header query-value ( name -- text )
//	body ( -- bytes )   body-json ( -- a )
//	batch ( -- list )                  null, or maps of id, attempt, event and body
//	sleep ( seconds -- )
//	trace debug info warn error ( message list -- )      logs a message with the list's values
//	print ( a -- )                     logs it as text, at info
//	invoke ( data delivery script -- id )
//	send ( data delivery queue -- id )   send-all ( list delivery queue -- ids )
//	                                   a delivery is a map of delay, run_at, expires_in, priority, max_attempts, ordering_key,
//	                                   concurrency_key, rate_key, debounce_key and idempotency_key; times are in seconds
//	respond ( body headers status -- )   answers, and ends the run
//	batch-result ( list -- )           the same for a batch, with maps of id, error, retry_after in seconds and fatal
//	fail ( message -- )   fatal ( message -- )   retry-after ( message seconds -- )
package main

import (
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/watch"
)

func main() {
	watch.Bound()
	engine.Serve(New())
}
