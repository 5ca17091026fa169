package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/core/api"
)

// policyFlags say how events are delivered: the whole policy as JSON, and flags for what is asked for most.
type policyFlags struct {
	policy      string
	attempts    int
	orderingKey string
	concurrency int
	rate        string
}

func (f *policyFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.policy, "policy", "", "the whole policy as `JSON`, @file, or @- for standard input")
	flags.IntVar(&f.attempts, "attempts", 0, "how often an event is tried")
	flags.StringVar(&f.orderingKey, "ordering-key", "", "`template` of a key, such as {body.customer}: events of one key run one after the other")
	flags.IntVar(&f.concurrency, "concurrency", 0, "how many run at one time")
	flags.StringVar(&f.rate, "rate", "", "how many start in a time, such as `10/1m`")
}

// read returns the policy that the flags ask for; nil: they ask for none.
func (f *policyFlags) read(c *cli) (*api.Policy, error) {
	if f.policy == "" && f.attempts == 0 && f.orderingKey == "" && f.concurrency == 0 && f.rate == "" {
		return nil, nil
	}
	var p api.Policy
	if f.policy != "" {
		text, err := c.readBody(f.policy)
		if err != nil {
			return nil, err
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&p); err != nil {
			return nil, fmt.Errorf(`--policy is not a policy such as {"max_attempts": 3, "delay": "10s"}: %w`, err)
		}
	}
	if f.attempts != 0 {
		p.MaxAttempts = f.attempts
	}
	if f.orderingKey != "" {
		p.OrderingKey = f.orderingKey
	}
	if f.concurrency != 0 {
		p.Concurrency = f.concurrency
	}
	if f.rate != "" {
		limit, per, _ := strings.Cut(f.rate, "/")
		n, err := strconv.Atoi(limit)
		if err != nil {
			return nil, fmt.Errorf("--rate is a number and a time, such as 10/1m, not %q", f.rate)
		}
		p.Rate = &api.Rate{Limit: n, Per: per}
	}
	return &p, nil
}

// policyText is a policy as people see it.
func policyText(p *api.Policy) string {
	text, err := json.Marshal(p)
	if err != nil || string(text) == "{}" {
		return "-"
	}
	return string(text)
}

func yesNo(is bool, yes string) string {
	if is {
		return yes
	}
	return "-"
}
