// Loads a trace by the trace engine of Chrome's DevTools, and prints what that has understood.
import { readFileSync } from 'node:fs'

globalThis.DOMRect ??= class {}
const { TraceModel } = await import('@paulirish/trace_engine')
const model = TraceModel.Model.createWithAllHandlers()
await model.parse(JSON.parse(readFileSync(process.argv[2])).traceEvents)
const { Meta, Renderer } = model.parsedTrace().data

const tree = (node) => ({
  name: node.entry.name,
  begin: node.entry.ts,
  length: node.entry.dur,
  parts: node.children.map(tree),
})
const threads = []
for (const [pid, { threads: ofProcess }] of Renderer.processes) {
  for (const [tid, thread] of ofProcess) {
    threads.push({ pid, tid, name: thread.name, roots: [...thread.tree.roots].map(tree) })
  }
}
console.log(JSON.stringify({ bounds: Meta.traceBounds, threads }))
