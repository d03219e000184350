// Draws one example in the frontend's graph and arranges it; returns what the frontend would save.
async (plan) => {
  const TITLE = 30, GAP = 40, COLUMN_GAP = 50;
  const graph = app.graph;
  const settle = () => new Promise((done) => setTimeout(done, 600));
  graph.clear();

  const note = LiteGraph.createNode("MarkdownNote");
  graph.add(note);
  note.title = "Read me";
  note.widgets[0].value = plan.note;

  const nodes = {};
  const specs = plan.rows.flat(2);
  for (const spec of specs) {
    const node = LiteGraph.createNode(spec.type);
    if (!node) throw new Error(`there is no node ${spec.type}`);
    graph.add(node);
    if (spec.title) node.title = spec.title;
    if (spec.muted) node.mode = 2;
    for (const [name, value] of Object.entries(spec.values)) {
      const widget = node.widgets?.find((one) => one.name === name);
      if (!widget) throw new Error(`${spec.type} has no widget ${name}`);
      widget.value = value;
    }
    if (spec.download) {
      const [name] = Object.values(spec.values);
      const directory = spec.type === "UpscaleModelLoader" ? "upscale_models" : "checkpoints";
      node.properties.models = [{ name, url: spec.download, directory }];
    }
    nodes[spec.key] = node;
  }
  for (const spec of specs) {
    for (const [name, [key, output]] of Object.entries(spec.links)) {
      const [source, target] = [nodes[key], nodes[spec.key]];
      const from = source.findOutputSlot(output), to = target.findInputSlot(name);
      if (from < 0 || to < 0 || !source.connect(from, target, to)) {
        throw new Error(`${key}.${output} does not go to ${spec.key}.${name}`);
      }
    }
  }

  // Texts are measured once they are drawn at the width they will have.
  note.pos = [0, TITLE];
  note.setSize([plan.noteWidth, 60]);
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [60, 60];
  graph.setDirtyCanvas(true, true);
  await settle();
  const text = note.widgets[0].element;
  const lines = text.querySelector(".tiptap") ?? text;
  note.setSize([plan.noteWidth, Math.ceil((lines.scrollHeight + 40) / 10) * 10]);

  let x = plan.noteWidth + COLUMN_GAP, top = 0, bottom = TITLE + note.size[1] + GAP;
  const place = (column) => {
    const sized = column.map((spec) => {
      const node = nodes[spec.key], [width, height] = node.computeSize();
      return { spec, node, width: Math.max(width, spec.size[0]), height: Math.max(height, spec.size[1]) };
    });
    const width = Math.ceil(Math.max(...sized.map((one) => one.width)) / 10) * 10;
    let y = top;
    for (const { spec, node, height } of sized) {
      y += spec.above;
      node.pos = [x, y + TITLE];
      node.setSize([width, Math.ceil(height)]);
      y += TITLE + Math.ceil((node.size[1] + spec.growth) / 10) * 10 + GAP;
    }
    x += width + COLUMN_GAP;
    bottom = Math.max(bottom, y);
  };
  for (const row of plan.rows) {
    row.forEach(place);
    [x, top] = [0, bottom];
  }
  graph.setDirtyCanvas(true, true);
  await settle();
  return JSON.stringify(graph.serialize());
};
