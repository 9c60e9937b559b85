package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"
)

// The watchdog holds the limits from beside the work, so that a step that hangs cannot outlive
// them. First it asks: a search that is told to give up returns within moments, and its key is
// unknown while the others go on. What has not heeded after a grace is spoken for, and the program
// ends with exitLimit.

const (
	sampling = 50 * time.Millisecond
	grace    = time.Second
)

type watchdog struct {
	limits  limits
	out     *output
	checker chan *checker // handed over once the history is read
}

func (w *watchdog) watch() {
	// The collector works harder as the limit comes near, instead of letting garbage trip it.
	debug.SetMemoryLimit(int64(w.limits.memory / 10 * 8))
	// Whatever holds a lock or does not read our output: the last word is a timer's.
	time.AfterFunc(time.Until(w.limits.deadline)+3*grace, func() { os.Exit(exitLimit) })
	var c *checker
	var asked time.Time // since when memory has been too high for one more search
	for range time.Tick(sampling) {
		select {
		case c = <-w.checker:
		default:
		}
		if now := time.Now(); now.After(w.limits.deadline) {
			c.stop("time")
			if now.After(w.limits.deadline.Add(grace)) {
				w.end(c, "time")
			}
		}
		c.dropOver(w.limits.keyMemory)
		used := memory()
		switch {
		case used > w.limits.memory:
			time.AfterFunc(2*grace, func() { os.Exit(exitLimit) })
			c.stop("memory")
			w.end(c, "memory")
		case used < w.limits.memory/10*9:
			asked = time.Time{}
		case asked.IsZero() || time.Since(asked) > grace:
			asked = time.Now()
			c.dropHeaviest()
			go runtime.GC()
		}
	}
}

// memory is what the program holds of the machine's.
func memory() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// peakMB is the most memory that the program has held at once, in MiB; 0 where the kernel does not say.
func peakMB() int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kb := 0
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		return 0
	}
	return kb / 1024
}

// end reports every key without a verdict and leaves.
func (w *watchdog) end(c *checker, limit string) {
	if c == nil {
		w.out.line(fmt.Appendf(nil, `{"stopped":%q,"keys":null}`, limit))
	} else {
		c.mu.Lock() // for good: nobody speaks after this
		left := 0
		for place, done := range c.decided {
			if !done {
				left++
				w.out.line(fmt.Appendf(nil, `{"key":%s,"verdict":"unknown","engine":"porcupine","ops":%d,"s":%.6f,"limit":%q,"reached":0}`,
					c.h.texts[c.h.keys[place]], len(c.h.of[place]), time.Since(w.limits.start).Seconds(), limit))
			}
		}
		w.out.line(fmt.Appendf(nil, `{"stopped":%q,"keys":%d,"undecided":%d}`, limit, len(c.h.keys), left))
	}
	w.out.close()
	os.Exit(exitLimit)
}

// stop makes every search give up, those to come as well.
func (c *checker) stop(limit string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped == nil {
		c.stopped = &limit
	}
	for _, j := range c.running {
		j.giveUp(limit)
	}
}

// dropOver makes every search give up that holds more than most.
func (c *checker) dropOver(most int64) {
	if c == nil || most <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.running {
		if j.weight.Load() > most {
			j.giveUp("key-memory")
		}
	}
}

// dropHeaviest makes the search give up that is likely to hold the most memory.
func (c *checker) dropHeaviest() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var heaviest *job
	for _, j := range c.running {
		if j.gaveUp.Load() == nil && (heaviest == nil || j.weight.Load() > heaviest.weight.Load()) {
			heaviest = j
		}
	}
	if heaviest != nil {
		heaviest.giveUp("memory")
	}
}
