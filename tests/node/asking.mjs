// Runs each case at each server a client is pointed at, and prints what was told as one JSON document.
//
// argv[2] is the plan: {asks: [{name, base, key, view, model}], refusals: [{name, base, key, model, titles}]}

export async function collected(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

// Values only: classes, functions and what cannot be written are left out by JSON itself. An object told twice
// in one answer (a response and the events it came in) is written twice.
export async function told({ client, cases, refusals, asWritten }) {
  const plan = JSON.parse(process.argv[2]);
  const found = { asks: {}, refusals: {} };
  for (const { name, model, view, ...way } of plan.asks) {
    found.asks[name] = {};
    for (const [title, ask] of Object.entries(cases)) {
      try {
        found.asks[name][title] = await ask(client(way, view), model);
      } catch (error) {
        found.asks[name][title] = { broken: String(error?.stack ?? error) };
      }
    }
  }
  for (const { name, model, titles, ...way } of plan.refusals) {
    found.refusals[name] = {};
    for (const title of titles) {
      try {
        found.refusals[name][title] = { answered: await refusals[title](client(way, "body"), model) };
      } catch (error) {
        found.refusals[name][title] = asWritten(error);
      }
    }
  }
  process.stdout.write(JSON.stringify(found));
}
