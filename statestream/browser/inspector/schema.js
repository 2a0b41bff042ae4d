/* schema.js: the actions that a server takes, and the fields of their payloads, from GET /openapi.json.
 *
 * Invariants: pure. What a field cannot express is edited as JSON, so there is no schema without a form.
 */

const MAX_DEPTH = 4;
const PREFIX = "#/components/schemas/";

/** The actions {type, description, keyed, fields}, by type. */
export function actionsOf(document) {
  const schemas = document.components?.schemas ?? {}, one = resolved(schemas, { $ref: `${PREFIX}One` });
  const actions = (one.anyOf ?? []).map((action) => resolved(schemas, action)).filter(({ properties }) => properties?.type?.const);
  return actions
    .map(({ properties, description }) => ({
      type: properties.type.const,
      description: description ?? "",
      keyed: properties.key !== undefined,
      fields: fieldsOf(schemas, resolved(schemas, properties.payload), 0),
    }))
    .sort((a, b) => (a.type < b.type ? -1 : 1));
}

/** The fields {name, kind, required, ...} of an object. */
function fieldsOf(schemas, { properties = {}, required = [] }, depth) {
  return Object.entries(properties).map(([name, schema]) => ({ name, required: required.includes(name), ...fieldOf(schemas, schema, depth) }));
}

function fieldOf(schemas, given, depth) {
  const schema = resolved(schemas, given), { description = "", default: preset } = schema;
  const options = schema.anyOf?.map((each) => resolved(schemas, each)), others = options?.filter(({ type }) => type !== "null");
  if (others?.length === 1 && options.length === 2)
    return { ...fieldOf(schemas, others[0], depth), description, preset, nullable: true };
  const about = { description, preset, schema };
  if (schema.const !== undefined) return { ...about, kind: "choice", choices: [schema.const] };
  if (schema.enum) return { ...about, kind: "choice", choices: schema.enum };
  if (schema.type === "object" && schema.properties && depth < MAX_DEPTH) return { ...about, kind: "group", fields: fieldsOf(schemas, schema, depth + 1) };
  if (["string", "integer", "number", "boolean"].includes(schema.type)) return { ...about, kind: schema.type };
  return { ...about, kind: "json" };
}

function resolved(schemas, schema, hops = 0) {
  const name = typeof schema?.$ref === "string" && schema.$ref.startsWith(PREFIX) ? schema.$ref.slice(PREFIX.length) : null;
  if (name === null || hops > 10) return schema ?? {};
  const { $ref, ...more } = schema;
  return { ...resolved(schemas, Object.hasOwn(schemas, name) ? schemas[name] : {}, hops + 1), ...more };
}
