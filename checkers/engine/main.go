// Command engine decides properties of a recorded history and says so, a key at a time.
//
//	engine linearizable [--model M | --table FILE] [--time-s N] [--key-time-s N] [--memory-mb N] [--key-memory-mb N]
//	       [--witness OUT [--witness-most OPS]] [--engines LIST] FILE
//	engine version
//
// It reads FILE by itself (JSON Lines; .gz and .zst too). Protocol, version 2: one JSON object a
// line on standard output, each written as soon as it is known, so that a reader keeps what was
// decided when the program is killed.
//
//	{"engine":"splitbrain-engine","version":V,"protocol":2}        first
//	{"read":{"ops":N,"keys":K,"s":S}}                              the history is sound
//	{"key":K,"verdict":"valid","engine":E,"ops":N,"s":S,"verified":B}   once for each key
//	{"key":K,"verdict":"unknown",...,"limit":"time|key-time|memory|key-memory|mistake|engines"}
//	{"key":K,"verdict":"invalid",...,"kind":...,"culprit":INVOKE,"window":[OP...],"assumed":[OP...]}
//	{"done":{"keys":K,"s":S,"peak_mb":M}}                          last; without it nothing is complete
//	{"stopped":"time|memory","keys":K}                             last, instead: a limit ended the program
//	{"error":"...","line":N}                                       last, instead: the history is refused
//
// Exit status: 0 done, 2 refused, 3 stopped by a limit. docs/engine.md has every member.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	version  = "0.2.0"
	protocol = 2

	exitRefused = 2
	exitLimit   = 3
)

func main() {
	out := newOutput(os.Stdout)
	status := run(os.Args[1:], out)
	out.close()
	os.Exit(status)
}

func run(args []string, out *output) int {
	hello := fmt.Appendf(nil, `{"engine":"splitbrain-engine","version":%q,"protocol":%d}`, version, protocol)
	if len(args) == 1 && args[0] == "version" {
		out.line(hello)
		return 0
	}
	if len(args) == 0 || args[0] != "linearizable" {
		return out.refuse("expected `engine linearizable [OPTIONS] FILE` or `engine version`", 0)
	}
	flags := flag.NewFlagSet("linearizable", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	name := flags.String("model", "cas-register", "")
	tablePath := flags.String("table", "", "")
	timeS := flags.Float64("time-s", 60, "")
	keyTimeS := flags.Float64("key-time-s", 20, "")
	memoryMB := flags.Uint64("memory-mb", 4096, "")
	keyMemoryMB := flags.Uint64("key-memory-mb", 0, "")
	list := flags.String("engines", strings.Join(engineNames, ","), "")
	witnessPath := flags.String("witness", "", "")
	witnessMost := flags.Int("witness-most", 0, "")
	if err := flags.Parse(args[1:]); err != nil {
		return out.refuse(err.Error(), 0)
	}
	if flags.NArg() != 1 {
		return out.refuse(fmt.Sprintf("found %d files; expected one", flags.NArg()), 0)
	}
	m := modelByName(*name)
	if *tablePath != "" {
		text, err := os.ReadFile(*tablePath)
		if err != nil {
			return out.refuse(err.Error(), 0)
		}
		if m, err = modelOf(text); err != nil {
			return out.refuse(err.Error(), 0)
		}
	}
	if m == nil {
		return out.refuse(fmt.Sprintf("unknown model %q; expected one of %s", *name, strings.Join(modelNames(), ", ")), 0)
	}
	use, err := parseEngines(*list)
	if err != nil {
		return out.refuse(err.Error(), 0)
	}
	out.line(hello)
	began := time.Now()
	l := limits{start: began, deadline: began.Add(seconds(*timeS)), keyTime: seconds(*keyTimeS), memory: *memoryMB << 20,
		keyMemory: int64(*keyMemoryMB << 20)}
	dog := &watchdog{limits: l, out: out, checker: make(chan *checker, 1)}
	go dog.watch()
	h, err := load(flags.Arg(0), *m)
	if err != nil {
		var bad *badLine
		if errors.As(err, &bad) {
			return out.refuse(bad.problem, bad.line)
		}
		return out.refuse(err.Error(), 0)
	}
	out.line(fmt.Appendf(nil, `{"read":{"ops":%d,"keys":%d,"s":%.6f}}`, len(h.ops), len(h.keys), time.Since(began).Seconds()))
	var witness *witnessFile
	if *witnessPath != "" && (*witnessMost == 0 || len(h.ops) <= *witnessMost) {
		if witness, err = createWitness(*witnessPath); err != nil {
			return out.refuse(err.Error(), 0)
		}
	}
	c := newChecker(h, *m, l, use, out, witness)
	dog.checker <- c
	c.run()
	if witness != nil {
		if err := witness.close(); err != nil {
			return out.refuse(fmt.Sprintf("the witness cannot be written: %v", err), 0)
		}
	}
	out.line(fmt.Appendf(nil, `{"done":{"keys":%d,"s":%.6f,"peak_mb":%d}}`, len(h.keys), time.Since(began).Seconds(), peakMB()))
	return 0
}

func load(path string, m model) (*history, error) {
	file, err := openHistory(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readHistory(file, m)
}

func seconds(s float64) time.Duration {
	const most = 1e9 // seconds; more would overflow a Duration
	return time.Duration(min(max(s, 0), most) * float64(time.Second))
}

// output writes lines in the order they come, from any goroutine. It writes each through when it
// has caught up, which makes one system call of many lines under load and loses none in calm.
type output struct {
	lines chan []byte
	ended chan struct{}
	once  sync.Once
}

func newOutput(to io.Writer) *output {
	o := &output{lines: make(chan []byte, 256), ended: make(chan struct{})}
	go func() {
		defer close(o.ended)
		b := bufio.NewWriterSize(to, 1<<16)
		for line := range o.lines {
			b.Write(line)
			b.WriteByte('\n')
			if len(o.lines) == 0 {
				b.Flush()
			}
		}
		b.Flush()
	}()
	return o
}

func (o *output) line(text []byte) { o.lines <- text }

// close waits until everything is written, but no longer than a grace: a reader that has stopped
// reading must not keep the program alive.
func (o *output) close() {
	o.once.Do(func() { close(o.lines) })
	select {
	case <-o.ended:
	case <-time.After(grace):
	}
}

func (o *output) refuse(problem string, line int) int {
	text := `{"error":` + quoted(problem)
	if line > 0 {
		text += `,"line":` + strconv.Itoa(line)
	}
	o.line([]byte(text + "}"))
	return exitRefused
}

// quoted is a text as a JSON string.
func quoted(text string) string {
	b := []byte{'"'}
	for _, r := range strings.ToValidUTF8(text, "?") {
		b = appendRune(b, r)
	}
	return string(append(b, '"'))
}
