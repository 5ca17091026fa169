module examples

go 1.26

require github.com/picloud/picloud v0.0.0

replace github.com/picloud/picloud => ../../..
